"""Runs one scenario of pynsq against the nsqd processes named in the environment.

NSQD_TCP and NSQD_HTTP hold their addresses, separated by commas, STATE the folder in which
the two halves of the durable scenario leave each other notes, LATE_MS how late a message may
come for which nsqd had to wait. TRANSPORT names the layers between client and nsqd, joined
with +; CERTIFICATES is the folder of the certificates and AUTH_SECRET the secret they take.
"""

import asyncio
import sys

import delivery
import durable
import lifecycle
import outcomes
import secured
from support import Broken, Cluster

SCENARIOS = {
    "publish_and_consume": delivery.publish_and_consume,
    "discovery": delivery.discovery,
    "transport": secured.over_transport,
    "refused": secured.refused,
    "requeue": outcomes.requeue,
    "touch": outcomes.touch,
    "timeout": outcomes.timeout,
    "deferred": outcomes.deferred,
    "heartbeats": lifecycle.heartbeats,
    "stop": lifecycle.stop,
    "bad_topic": lifecycle.bad_topic,
    "durable_publish": durable.publish,
    "durable_verify": durable.verify,
}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in SCENARIOS:
        print("usage: scenarios.py SCENARIO", file=sys.stderr)
        return 64
    try:
        asyncio.run(SCENARIOS[sys.argv[1]](Cluster.from_environment()))
    except Broken as broken:
        print(broken, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
