// Everything published arrives, once per channel, whatever way it was sent.
'use strict'

const {strict: assert} = require('assert')
const {body, numberOf} = require('./support')

const CHANNELS = ['first', 'second']

// Spreads messages over all nodes, half as single publishes and half in batches, and expects
// each of them exactly once on each of two channels.
function publishAndConsume(cluster) {
  return roundTrip(cluster, 'publish_and_consume', 5000, {})
}

// Finds all nodes through the nsqlookupds, then does the same with fewer messages.
async function discovery(cluster) {
  for (const channel of CHANNELS) await cluster.createEverywhere('discovery', channel)
  await roundTrip(cluster, 'discovery', 600, {lookupdPollInterval: 1, lookupdPollJitter: 0.01})
}

async function roundTrip(cluster, topic, total, options) {
  const channels = CHANNELS
  const readers = []
  for (const channel of channels) {
    readers.push(await cluster.subscribe(topic, channel, {maxInFlight: 200, ...options}))
  }
  const share = total / cluster.tcp.length
  await Promise.all([
    ...cluster.tcp.map((_, node) =>
      publishShare(cluster, node, topic, node * share, (node + 1) * share)
    ),
    ...readers.map((reader) => expectEach(reader, total)),
  ])
  for (const [i, reader] of readers.entries()) {
    await cluster.waitFor(
      topic,
      channels[i],
      'all finished, none again',
      (c) =>
        c.message_count === share &&
        c.depth + c.in_flight_count + c.deferred_count === 0 &&
        c.requeue_count + c.timeout_count === 0
    )
    await reader.quiet(200)
    assert.deepEqual(reader.errors, [])
    reader.close()
  }
}

async function publishShare(cluster, node, topic, from, to) {
  const writer = await cluster.writer(node)
  const middle = Math.floor((from + to) / 2)
  for (let n = from; n < middle; n++) await writer.send(topic, body(n))
  for (let n = middle; n < to; n += 50) {
    const batch = []
    for (let i = n; i < Math.min(n + 50, to); i++) batch.push(body(i))
    await writer.send(topic, batch)
  }
}

// Takes and finishes messages until all numbers have come, each of them once.
async function expectEach(reader, total) {
  const seen = new Set()
  while (seen.size < total) {
    const message = await reader.next()
    const n = numberOf(message)
    assert(!seen.has(n) && message.attempts === 1, `message ${n} came again`)
    seen.add(n)
    message.finish()
  }
}

module.exports = {discovery, publishAndConsume, roundTrip}
