"""Delivery over TLS, compression and AUTH, and clients that are turned away."""

import asyncio
import collections
import os

import nsq
from delivery import round_trip
from support import check, eventually

# Sizes of bodies around the buffers, chunks and limits on their way: a frame, nsqd's output
# buffer, a TLS record, a snappy chunk, the largest message.
SIZES = [1, 2, 100, 4095, 4096, 16383, 16384, 16385, 65535, 65536, 65537, 300_000, 1 << 20]


async def over_transport(cluster):
    """Delivers small and large messages and has nsqd confirm how the connections that carry
    them are made."""
    await round_trip(cluster, "transport", 600)
    await every_size(cluster.only())


async def every_size(cluster):
    """Publishes bodies of every size, compressible and not, first each for itself and then in
    batches, and expects each of them twice."""
    topic = "every_size"
    reader = await cluster.subscribe(topic, max_in_flight=5)
    writer = await cluster.writer()
    bodies = bodies_of_every_size()
    receiving = asyncio.ensure_future(expect_twice(reader, bodies))
    for body in bodies:
        answer = await writer.send("pub", topic, body)
        check(answer == b"OK", f"publish of {len(body)} bytes answered {answer}")
    for batch in (bodies[: len(SIZES)], bodies[len(SIZES) :]):
        answer = await writer.send("mpub", topic, batch)
        check(answer == b"OK", f"multi-publish answered {answer}")
    await receiving
    check_transport(cluster, topic)


def bodies_of_every_size():
    """Makes a text of each size and then noise of each size."""
    text = b"nsq is a realtime distributed messaging platform. " * (SIZES[-1] // 50 + 1)
    # No text begins like noise.
    noise = b"\x80" + os.urandom(SIZES[-1])
    return [source[:size] for source in (text, noise) for size in SIZES]


async def expect_twice(reader, bodies):
    missing = collections.Counter(bodies * 2)
    while missing:
        message = await reader.next()
        check(
            missing[message.body] > 0,
            f"unexpected or changed message of {len(message.body)} bytes: {message.body[:40]}",
        )
        missing -= collections.Counter([message.body])
        message.finish()


def check_transport(cluster, topic):
    """Checks how nsqd sees the connections of a topic."""
    expected = cluster.transport.in_stats()
    clients = cluster.channel(topic, "channel")["clients"]
    producers = cluster.producers(topic)
    check(clients and producers, "nsqd does not list the consumer and the producer")
    for connection in clients + producers:
        seen = {key: connection.get(key) for key in expected}
        check(seen == expected, f"nsqd sees a connection {seen}, wanted {expected}")


async def refused(cluster):
    """Expects the secured nsqd to turn away every client that lacks something: TLS, a
    certificate, one of the right issuer, the secret, the permission."""
    whole = cluster.transport.options()
    without = {**whole["tls_options"]}
    del without["certfile"], without["keyfile"]
    foreign = {**without, **cluster.transport.certificate("stranger")}
    for lacks, change, answer in [
        ("TLS", {"tls_v1": False}, "E_INVALID"),
        ("a certificate", {"tls_options": without}, None),
        ("a certificate of the right issuer", {"tls_options": foreign}, None),
        ("a known secret", {"auth_secret": "guessed"}, "E_AUTH_FAILED"),
        ("permission", {"auth_secret": "subscribe only"}, "E_UNAUTHORIZED"),
    ]:
        await turned_away(cluster, f"a client without {lacks}", {**whole, **change}, answer)
    check(cluster.stats()["topics"] == [], f"topics were created: {cluster.stats()['topics']}")


async def turned_away(cluster, who, options, answer):
    """Connects and publishes, until nsqd or TLS has refused; with this text where the client
    gets to hear it."""
    writer = RefusedWriter([cluster.tcp[0]], **options)
    await eventually(f"{who} is refused", lambda: bool(writer.complaints))
    check(not writer.accepted, f"{who} may publish")
    check(
        answer is None or any(answer in complaint for complaint in writer.complaints),
        f"{who} got {writer.complaints}, not {answer}",
    )


class RefusedWriter(nsq.Writer):
    """A writer that publishes as soon as the library lets it, and notes what comes of it."""

    def __init__(self, *args, **options):
        self.complaints = []
        self.accepted = False
        super().__init__(*args, **options)

    def _on_connection_ready(self, conn, **kwargs):
        super()._on_connection_ready(conn, **kwargs)
        self.pub("refused", b"refused", callback=self._note)

    def _note(self, _conn, answer):
        if answer == b"OK":
            self.accepted = True
        self.complaints.append(str(answer))

    def _on_connection_error(self, conn, error, **kwargs):
        super()._on_connection_error(conn, error, **kwargs)
        self.complaints.append(str(error))
