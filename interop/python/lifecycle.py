"""How connections live and end."""

import asyncio

import nsq
from support import body, check, eventually, expect, number_of


async def heartbeats(cluster):
    """Leaves a reader and a writer idle for six heartbeat intervals."""
    cluster = cluster.only()
    reader = await cluster.subscribe("heartbeats", heartbeat_interval=1)
    writer = await cluster.writer(heartbeat_interval=1)
    # A connection counts as a producer only when it has published.
    await writer.send("pub", "heartbeats", b"before")
    (await reader.next()).finish()
    before = cluster.connections("heartbeats")
    await reader.quiet(6)
    for who in (reader, writer):
        beats = who.heartbeat_count
        check(4 <= beats <= 8, f"{type(who).__name__} got {beats} heartbeats in 6 s")
    check(cluster.connections("heartbeats") == before, "a connection was replaced")
    await cluster.still_works("heartbeats", reader, writer)


async def stop(cluster):
    """Ends a consumer that holds messages: after CLS its answers still count, and what it
    never got goes to the next one, at its first attempt. pynsq has no call for CLS, so the
    scenario writes it to the reader's connection."""
    total, held = 20, 5
    cluster = cluster.only()
    cluster.create_channel("stop", "channel")
    writer = await cluster.writer()
    for n in range(total):
        await writer.send("pub", "stop", body(n))
    reader = await cluster.subscribe("stop", max_in_flight=held)
    in_flight = [await reader.next() for _ in range(held)]
    answers = []
    (connection,) = reader.conns.values()
    connection.on("response", lambda conn, data: answers.append(data))
    connection.send(b"CLS\n")
    await eventually("CLOSE_WAIT", lambda: b"CLOSE_WAIT" in answers)
    seen = {number_of(message) for message in in_flight}
    for message in in_flight:
        message.finish()
    await cluster.wait_for(
        "stop", "channel", "answers counted", lambda c: c["in_flight_count"] == 0
    )
    await reader.quiet(0.1)
    check(not reader.errors, f"nsqd refused a command: {reader.errors}")
    reader.close()
    await cluster.wait_for(
        "stop",
        "channel",
        "client gone, the rest waits",
        lambda c: c["client_count"] == 0 and c["depth"] == total - held,
    )
    rest = await cluster.subscribe("stop")
    while len(seen) < total:
        message = await rest.next()
        n = number_of(message)
        check(n not in seen and message.attempts == 1, f"message {n} came again")
        seen.add(n)
        message.finish()


async def bad_topic(cluster):
    """Publishes to a name nsqd refuses: the error reaches the caller and the writer goes on,
    on a new connection because nsqd closes the old one."""
    cluster = cluster.only()
    reader = await cluster.subscribe("bad_topic")
    writer = await cluster.writer()
    answer = await writer.send("pub", "bad*topic", b"refused")
    check(
        isinstance(answer, nsq.Error) and "E_BAD_TOPIC" in str(answer),
        f"publishing to a bad topic answered {answer!r}",
    )
    answer = None
    for _ in range(100):
        answer = await writer.send("pub", "bad_topic", b"accepted")
        if answer == b"OK":
            break
        await asyncio.sleep(0.05)
    check(answer == b"OK", f"publish after the error answered {answer!r}")
    message = await reader.next()
    expect(message, b"accepted", 1)
    message.finish()
    await cluster.settled("bad_topic")
