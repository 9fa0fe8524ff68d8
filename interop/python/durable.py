"""What nsqd has acknowledged survives kill -9, in two halves around the kill."""

import json
import pathlib
import time

import nsq
from support import Broken, body, check, number_of

TOPIC = "durable"
# Of these channels, one has a consumer that is cut off in the middle of its work and one has
# never had a consumer.
HELD = "held"
UNTOUCHED = "untouched"
DEFER_MS = 1500
# Enough acknowledged messages to be killed after, and more than can come before the kill.
ENOUGH = 2000
TOO_MANY = 900_000


async def publish(cluster):
    """Publishes until nsqd dies under it, while a consumer finishes a third of what it gets,
    requeues a third and holds the rest."""
    state = pathlib.Path(cluster.state)
    cluster.create_channel(TOPIC, UNTOUCHED)
    reader = await cluster.subscribe(TOPIC, HELD, max_in_flight=300)
    finished = []

    def answer_some(message):
        message.enable_async()
        n = number_of(message)
        if n % 3 == 0:
            finished.append(n)
            message.finish()
        elif n % 3 == 1:
            message.requeue(time_ms=1000, backoff=False)

    reader.set_message_handler(answer_some)
    acknowledged = await publish_until_killed(await cluster.writer(), state / "ready")
    notes = {"acknowledged": acknowledged, "finished": finished}
    (state / "notes.json").write_text(json.dumps(notes))


async def publish_until_killed(writer, ready):
    """Gives, for each message answered with OK, its number and the time before which it must
    not be delivered, in ms since 1970; 0 for no such time."""
    acknowledged = []
    n = 0
    while n < TOO_MANY:
        due = 0
        numbers = range(n, n + 1)
        if n % 100 == 40:
            numbers = range(n, n + 20)
            answer = await writer.send("mpub", TOPIC, [body(i) for i in numbers])
        elif n % 100 in (80, 90):
            due = int(time.time() * 1000) + DEFER_MS
            answer = await writer.send("dpub", TOPIC, DEFER_MS, body(n))
        else:
            answer = await writer.send("pub", TOPIC, body(n))
        if isinstance(answer, nsq.Error):
            check(ready.exists(), f"publish {n} answered {answer!r}")
            return acknowledged
        check(answer == b"OK", f"publish {n} answered {answer}")
        acknowledged += [(i, due) for i in numbers]
        n += len(numbers)
        if n >= ENOUGH:
            ready.touch()
    raise Broken("nobody killed nsqd")


async def verify(cluster):
    """Drains both channels of the new nsqd and looks for what is missing."""
    notes = json.loads((pathlib.Path(cluster.state) / "notes.json").read_text())
    due_times = dict(notes["acknowledged"])
    finished = set(notes["finished"])
    print(f"{len(due_times)} acknowledged, {len(finished)} finished on one channel")
    await drain(cluster, UNTOUCHED, set(due_times), due_times)
    # What was finished may come again: nsqd does not answer FIN.
    await drain(cluster, HELD, set(due_times) - finished, due_times)


async def drain(cluster, channel, missing, due_times):
    reader = await cluster.subscribe(TOPIC, channel, max_in_flight=500)
    while missing:
        try:
            message = await reader.next()
        except Broken as broken:
            raise Broken(f"{channel}: {len(missing)} acknowledged messages missing: {broken}")
        n = number_of(message)
        early = due_times.get(n, 0) - time.time() * 1000
        check(early <= 10, f"{channel}: deferred message {n} came {early:.0f} ms early")
        missing.discard(n)
        message.finish()
