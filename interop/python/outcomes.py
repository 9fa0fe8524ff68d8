"""What becomes of one message: requeued, touched, timed out, deferred."""

import time

from support import check, eventually, expect

MSG_TIMEOUT = 1.0


async def requeue(cluster):
    """Sends a message back at once and then with a delay; attempts count up."""
    cluster = cluster.only()
    reader = await cluster.subscribe("requeue", max_backoff_duration=4)
    writer = await cluster.writer()
    await writer.send("pub", "requeue", b"again")
    first = await reader.next()
    expect(first, b"again", 1)
    first.requeue(delay=0, backoff=False)
    second = await reader.next()
    expect(second, b"again", 2)
    sent = time.monotonic()
    # This one makes the client back off: RDY 0, then RDY 1, then all of it.
    second.requeue(time_ms=500)
    third = await reader.next()
    expect(third, b"again", 3)
    cluster.on_time("delayed requeue", time.monotonic() - sent, 0.5)
    check(first.id == second.id == third.id, "the id changed")
    third.finish()
    await cluster.settled("requeue")


async def touch(cluster):
    """Keeps a message for three times its timeout."""
    cluster = cluster.only()
    reader = await cluster.subscribe("touch", msg_timeout=MSG_TIMEOUT)
    writer = await cluster.writer()
    await writer.send("pub", "touch", b"slow")
    message = await reader.next()
    for _ in range(10):
        await reader.quiet(MSG_TIMEOUT * 0.3)
        message.touch()
    message.finish()
    await cluster.settled("touch")
    timeouts = cluster.channel("touch", "channel")["timeout_count"]
    check(timeouts == 0, f"{timeouts} timeouts in spite of TOUCH")
    check(not reader.errors, f"nsqd refused a command: {reader.errors}")


async def timeout(cluster):
    """Leaves a message unanswered: it comes again, and an answer to a delivery that is over
    is refused without harm to the connection."""
    cluster = cluster.only()
    reader = await cluster.subscribe("timeout", msg_timeout=MSG_TIMEOUT)
    writer = await cluster.writer()
    sent = time.monotonic()
    await writer.send("pub", "timeout", b"forgotten")
    first = await reader.next()
    second = await reader.next()
    cluster.on_time("timed out message", time.monotonic() - sent, MSG_TIMEOUT)
    expect(second, b"forgotten", 2)
    check(not reader.errors, f"nsqd refused a command: {reader.errors}")
    second.finish()
    await cluster.settled("timeout")
    first.finish()
    await eventually("late FIN refused", lambda: bool(reader.errors))
    check("E_FIN_FAILED" in reader.errors[0], f"late FIN answered {reader.errors}")
    await cluster.still_works("timeout", reader, writer)


async def deferred(cluster):
    """Publishes with a delay and without: the second overtakes, the first is on time."""
    cluster = cluster.only()
    reader = await cluster.subscribe("deferred", max_in_flight=10)
    writer = await cluster.writer()
    sent = time.monotonic()
    await writer.send("dpub", "deferred", 800, b"later")
    await writer.send("pub", "deferred", b"now")
    now = await reader.next()
    expect(now, b"now", 1)
    now.finish()
    later = await reader.next()
    cluster.on_time("deferred message", time.monotonic() - sent, 0.8)
    expect(later, b"later", 1)
    later.finish()
    await cluster.settled("deferred")
