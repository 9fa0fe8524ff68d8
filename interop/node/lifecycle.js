// How connections live and end.
'use strict'

const {strict: assert} = require('assert')
const {assertMessage, body, numberOf} = require('./support')

// Leaves a reader and a writer idle for six heartbeat intervals. The idle timeout makes the
// client hang up by itself when heartbeats do not come; nsqd hangs up when they are not
// answered.
async function heartbeats(cluster) {
  cluster = cluster.only()
  const options = {heartbeatInterval: 1, idleTimeout: 3}
  const reader = await cluster.subscribe('heartbeats', 'channel', options)
  const writer = await cluster.writer(0, options)
  // A connection counts as a producer only when it has published.
  await writer.send('heartbeats', 'before')
  ;(await reader.next()).finish()
  const before = await cluster.connections('heartbeats')
  const beats = [reader, writer].map(countHeartbeats)
  await reader.quiet(6000)
  for (const {count} of beats) {
    assert(count >= 4 && count <= 8, `${count} heartbeats in 6 s`)
  }
  assert.deepEqual(await cluster.connections('heartbeats'), before, 'a connection was replaced')
  await cluster.assertStillWorks('heartbeats', reader, writer)
}

function countHeartbeats(client) {
  const seen = {count: 0}
  const [socket] = client.sockets()
  socket.on('data', (data) => {
    if (data.includes('_heartbeat_')) seen.count += 1
  })
  return seen
}

// Ends a consumer that holds messages. nsqjs sends CLS and hangs up at once: what it had
// finished is finished, what it held comes again when it times out, and what it never got
// comes at its first attempt.
async function stop(cluster) {
  const total = 20
  const maxInFlight = 5
  cluster = cluster.only()
  await cluster.createChannel('stop', 'channel')
  const writer = await cluster.writer()
  for (let n = 0; n < total; n++) await writer.send('stop', body(n))
  const options = {maxInFlight, messageTimeout: 1500}
  const reader = await cluster.subscribe('stop', 'channel', options)
  const inFlight = []
  while (inFlight.length < maxInFlight) inFlight.push(await reader.next())
  reader.pause()
  const seen = new Set(inFlight.slice(2).map(numberOf))
  const held = new Set(inFlight.slice(0, 2).map(numberOf))
  for (const message of inFlight.slice(2)) message.finish()
  await cluster.waitFor('stop', 'channel', 'answers counted', (c) => c.in_flight_count === 2)
  assert.deepEqual(reader.errors, [])
  reader.close()
  await cluster.waitFor(
    'stop',
    'channel',
    'client gone',
    (c) => c.client_count === 0 && c.depth + c.in_flight_count === total - seen.size
  )
  const rest = await cluster.subscribe('stop', 'channel', {maxInFlight})
  while (seen.size < total) {
    const message = await rest.next()
    const n = numberOf(message)
    assert(!seen.has(n), `message ${n} came again`)
    assert.equal(message.attempts, held.has(n) ? 2 : 1, `attempts of message ${n}`)
    seen.add(n)
    message.finish()
  }
  await cluster.settled('stop')
}

// Publishes to a name nsqd refuses: the error reaches the caller and the writer goes on, on a
// new connection because nsqd closes the old one.
async function badTopic(cluster) {
  cluster = cluster.only()
  const reader = await cluster.subscribe('bad_topic')
  const writer = await cluster.writer()
  const closed = new Promise((resolve) => writer.once('closed', resolve))
  await assert.rejects(writer.send('bad*topic', 'refused'), /E_BAD_TOPIC/)
  await closed
  await writer.open()
  await writer.send('bad_topic', 'accepted')
  const message = await reader.next()
  assertMessage(message, 'accepted', 1)
  message.finish()
  await cluster.settled('bad_topic')
}

module.exports = {badTopic, heartbeats, stop}
