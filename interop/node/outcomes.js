// What becomes of one message: requeued, touched, timed out, deferred.
'use strict'

const {strict: assert} = require('assert')
const {assertMessage, eventually} = require('./support')

const MSG_TIMEOUT_MS = 1000

// Sends a message back at once and then with a delay; attempts count up.
async function requeue(cluster) {
  cluster = cluster.only()
  const reader = await cluster.subscribe('requeue', 'channel', {maxBackoffDuration: 4})
  const writer = await cluster.writer()
  await writer.send('requeue', 'again')
  const first = await reader.next()
  assertMessage(first, 'again', 1)
  first.requeue(0, false)
  const second = await reader.next()
  assertMessage(second, 'again', 2)
  const sent = Date.now()
  // This one makes the client back off: RDY 0, then RDY 1, then all of it.
  second.requeue(500, true)
  const third = await reader.next()
  assertMessage(third, 'again', 3)
  cluster.assertOnTime('delayed requeue', Date.now() - sent, 500)
  assert.deepEqual([second.id, third.id], [first.id, first.id])
  third.finish()
  await cluster.settled('requeue')
}

// Keeps a message for three times its timeout.
async function touch(cluster) {
  cluster = cluster.only()
  const reader = await cluster.subscribe('touch', 'channel', {messageTimeout: MSG_TIMEOUT_MS})
  const writer = await cluster.writer()
  await writer.send('touch', 'slow')
  const message = await reader.next()
  for (let i = 0; i < 10; i++) {
    await reader.quiet(MSG_TIMEOUT_MS * 0.3)
    message.touch()
  }
  message.finish()
  await cluster.settled('touch')
  assert.equal((await cluster.channel('touch')).timeout_count, 0)
  assert.deepEqual(reader.errors, [])
}

// Leaves a message unanswered: it comes again, and an answer to a delivery that is over is
// refused without harm to the connection.
async function timeout(cluster) {
  cluster = cluster.only()
  const reader = await cluster.subscribe('timeout', 'channel', {messageTimeout: MSG_TIMEOUT_MS})
  const writer = await cluster.writer()
  const sent = Date.now()
  await writer.send('timeout', 'forgotten')
  const first = await reader.next()
  const second = await reader.next()
  cluster.assertOnTime('timed out message', Date.now() - sent, MSG_TIMEOUT_MS)
  assertMessage(second, 'forgotten', 2)
  assert.deepEqual(reader.errors, [])
  second.finish()
  await cluster.settled('timeout')
  first.finish()
  await eventually('late FIN refused', () => reader.errors.length > 0)
  assert.match(reader.errors[0], /^E_FIN_FAILED/)
  await cluster.assertStillWorks('timeout', reader, writer)
}

// Publishes with a delay and without: the second overtakes, the first is on time.
async function deferred(cluster) {
  cluster = cluster.only()
  const reader = await cluster.subscribe('deferred', 'channel', {maxInFlight: 10})
  const writer = await cluster.writer()
  const sent = Date.now()
  await writer.sendDeferred('deferred', 'later', 800)
  await writer.send('deferred', 'now')
  const now = await reader.next()
  assertMessage(now, 'now', 1)
  now.finish()
  const later = await reader.next()
  cluster.assertOnTime('deferred message', Date.now() - sent, 800)
  assertMessage(later, 'later', 1)
  later.finish()
  await cluster.settled('deferred')
}

module.exports = {deferred, requeue, timeout, touch}
