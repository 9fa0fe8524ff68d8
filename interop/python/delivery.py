"""Everything published arrives, once per channel, whatever way it was sent."""

import asyncio

from support import body, check, number_of

CHANNELS = ["first", "second"]


async def publish_and_consume(cluster):
    """Spreads messages over all nodes, half as single publishes and half in batches, and
    expects each of them exactly once on each of two channels."""
    await round_trip(cluster, "publish_and_consume", 5000)


async def discovery(cluster):
    """Finds all nodes through the nsqlookupds, then does the same with fewer messages."""
    for channel in CHANNELS:
        cluster.create_everywhere("discovery", channel)
    await round_trip(cluster, "discovery", 600)


async def round_trip(cluster, topic, total):
    channels = CHANNELS
    readers = [
        await cluster.subscribe(topic, channel, max_in_flight=200) for channel in channels
    ]
    share = total // len(cluster.tcp)
    await asyncio.gather(
        *(
            publish_share(cluster, node, topic, range(node * share, (node + 1) * share))
            for node in range(len(cluster.tcp))
        ),
        *(expect_each(reader, total) for reader in readers),
    )
    for channel, reader in zip(channels, readers):
        await cluster.wait_for(
            topic,
            channel,
            "all finished, none again",
            lambda c: c["message_count"] == share
            and c["depth"] + c["in_flight_count"] + c["deferred_count"] == 0
            and c["requeue_count"] + c["timeout_count"] == 0,
        )
        await reader.quiet(0.2)
        check(not reader.errors, f"nsqd refused a command: {reader.errors}")
        reader.close()


async def publish_share(cluster, node, topic, numbers):
    writer = await cluster.writer(node)
    middle = len(numbers) // 2
    for n in numbers[:middle]:
        answer = await writer.send("pub", topic, body(n))
        check(answer == b"OK", f"publish {n} answered {answer}")
    for at in range(middle, len(numbers), 50):
        batch = [body(n) for n in numbers[at : at + 50]]
        answer = await writer.send("mpub", topic, batch)
        check(answer == b"OK", f"multi-publish at {at} answered {answer}")


async def expect_each(reader, total):
    """Takes and finishes messages until all numbers have come, each of them once."""
    seen = set()
    while len(seen) < total:
        message = await reader.next()
        n = number_of(message)
        check(
            n not in seen and message.attempts == 1,
            f"message {n} came again, attempt {message.attempts}",
        )
        seen.add(n)
        message.finish()
