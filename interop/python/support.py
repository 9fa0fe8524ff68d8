"""What the scenarios share: the nsqds, a reader with an inbox, a writer that can be awaited."""

import asyncio
import json
import os
import time
import urllib.parse
import urllib.request

import nsq
from transport import Transport

# Bounds every wait for something that should happen at once, in seconds.
PATIENCE = 10.0
# The resolution granted to two clocks, in seconds.
TICK = 0.01


class Broken(Exception):
    """A promise of nsqd that was not kept."""


def check(holds, text):
    if not holds:
        raise Broken(text)


async def eventually(what, holds):
    """Polls until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        check(time.monotonic() < deadline, f"{what}: not within {PATIENCE} s")
        await asyncio.sleep(0.02)


class Cluster:
    """The nsqd processes a scenario talks to."""

    def __init__(self, tcp, http, state, late, transport, lookupd=()):
        self.tcp = tcp
        self.http = http
        self.state = state
        self.late = late
        self.transport = transport
        # The nsqlookupds through which a reader finds the nsqds, if it is to.
        self.lookupd = list(lookupd)

    @classmethod
    def from_environment(cls):
        return cls(
            os.environ["NSQD_TCP"].split(","),
            os.environ["NSQD_HTTP"].split(","),
            os.environ.get("STATE"),
            int(os.environ["LATE_MS"]) / 1000,
            Transport.from_environment(),
            [a for a in os.environ.get("LOOKUPD_HTTP", "").split(",") if a],
        )

    def only(self):
        """Narrows the cluster to its first node."""
        return Cluster(self.tcp[:1], self.http[:1], self.state, self.late, self.transport)

    def stats(self, node=0):
        with urllib.request.urlopen(f"http://{self.http[node]}/stats?format=json") as answer:
            return json.load(answer)

    def channel(self, topic, channel, node=0):
        """The statistics of a channel, None when it does not exist."""
        for t in self.stats(node)["topics"]:
            if t["topic_name"] == topic:
                for c in t["channels"]:
                    if c["channel_name"] == channel:
                        return c
        return None

    async def wait_for(self, topic, channel, what, holds):
        """Polls a channel on every node until the condition holds on each of them."""

        def kept(node):
            stats = self.channel(topic, channel, node)
            return stats is not None and holds(stats)

        for node in range(len(self.http)):
            await eventually(f"{topic}/{channel} on nsqd {node}: {what}", lambda: kept(node))

    async def settled(self, topic, channel="channel"):
        await self.wait_for(
            topic,
            channel,
            "nothing left",
            lambda c: c["depth"] + c["in_flight_count"] + c["deferred_count"] == 0,
        )

    def create_everywhere(self, topic, channel):
        """Makes a channel on every node."""
        for node in self.http:
            Cluster(self.tcp, [node], self.state, self.late, self.transport).create_channel(
                topic, channel
            )

    def create_channel(self, topic, channel):
        """Makes a channel on the first node without subscribing to it."""
        query = urllib.parse.urlencode({"topic": topic, "channel": channel})
        for path in ("topic/create", "channel/create"):
            request = urllib.request.Request(
                f"http://{self.http[0]}/{path}?{query}", data=b"", method="POST"
            )
            urllib.request.urlopen(request).close()

    async def subscribe(self, topic, channel="channel", **options):
        if self.lookupd:
            found_by = {
                "lookupd_http_addresses": self.lookupd,
                "lookupd_poll_interval": 1,
                "lookupd_poll_jitter": 0.0,
            }
        else:
            found_by = {"nsqd_tcp_addresses": list(self.tcp)}
        options = {**self.transport.options(), **found_by, **options}
        reader = InboxReader(topic=topic, channel=channel, **options)
        await self.wait_for(topic, channel, "one subscriber", lambda c: c["client_count"] >= 1)
        return reader

    async def writer(self, node=0, **options):
        options = {**self.transport.options(), "reconnect_interval": 0.1, **options}
        writer = AwaitableWriter([self.tcp[node]], **options)
        await eventually("writer connected", lambda: bool(writer.conns))
        return writer

    def producers(self, topic):
        """The connections that have published to a topic."""
        return [
            producer
            for producer in self.stats()["producers"] or []
            if any(count["topic"] == topic for count in producer.get("pub_counts", []))
        ]

    def connections(self, topic):
        """Both sockets of a scenario as nsqd sees them: a reconnect would change them."""
        clients = self.channel(topic, "channel")["clients"]
        producers = self.producers(topic)
        check(
            len(clients) == len(producers) == 1,
            f"{len(clients)} consumers and {len(producers)} producers",
        )
        return [c["remote_address"] for c in clients + producers]

    def on_time(self, what, took, delay):
        """A delay may not be cut short, nor stretched by more than the lateness allowed."""
        check(
            delay - TICK <= took <= delay + self.late,
            f"{what} came after {took:.3f} s, not between {delay} and {delay + self.late} s",
        )

    async def still_works(self, topic, reader, writer):
        """Sends one more message through the connections that are there."""
        before = self.connections(topic)
        check(await writer.send("pub", topic, b"still works") == b"OK", "publish failed")
        message = await reader.next()
        expect(message, b"still works", 1)
        message.finish()
        await self.settled(topic)
        check(self.connections(topic) == before, "a connection was replaced")


class InboxReader(nsq.Reader):
    """A reader whose messages wait in an inbox until a scenario answers them."""

    def __init__(self, **options):
        self.inbox = asyncio.Queue()
        self.errors = []
        self.heartbeat_count = 0
        super().__init__(message_handler=self._keep, **options)

    def _keep(self, message):
        message.enable_async()
        self.inbox.put_nowait(message)

    def heartbeat(self, conn):
        self.heartbeat_count += 1

    def _on_connection_error(self, conn, error, **kwargs):
        self.errors.append(str(error))

    async def next(self):
        try:
            return await asyncio.wait_for(self.inbox.get(), PATIENCE)
        except asyncio.TimeoutError:
            raise Broken(f"no message within {PATIENCE} s") from None

    async def quiet(self, seconds):
        """Fails when a message comes within the given time."""
        await asyncio.sleep(seconds)
        check(self.inbox.empty(), "unexpected message")


class AwaitableWriter(nsq.Writer):
    """A writer that counts heartbeats and whose answers can be awaited."""

    heartbeat_count = 0

    def heartbeat(self, conn):
        self.heartbeat_count += 1

    def send(self, command, *args):
        """Sends a pub, mpub or dpub; the future holds what nsqd answered, an Error too."""
        answer = asyncio.get_running_loop().create_future()
        getattr(self, command)(*args, callback=lambda conn, data: answer.set_result(data))
        return asyncio.wait_for(answer, PATIENCE)


TABLE = bytes(range(256)) * 120


def body(number):
    """Makes the body with a number: the number, then binary of a length that varies from
    nothing to more than a read buffer."""
    size = 20_000 if number % 500 == 0 else number % 7 * 40
    start = number % 256
    return b"%06d:" % number + TABLE[start : start + size]


def number_of(message):
    """Reads a body back and fails when it is not the one that was made."""
    check(message.body[:6].isdigit(), f"not a body of ours: {message.body[:40]}")
    number = int(message.body[:6])
    check(message.body == body(number), f"body {number} was changed on its way")
    return number


def expect(message, wanted_body, wanted_attempts):
    check(
        (message.body, message.attempts) == (wanted_body, wanted_attempts),
        f"got {message.body} at attempt {message.attempts}, "
        f"wanted {wanted_body} at attempt {wanted_attempts}",
    )
