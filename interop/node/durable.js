// What nsqd has acknowledged survives kill -9, in two halves around the kill.
'use strict'

const {strict: assert} = require('assert')
const fs = require('fs')
const path = require('path')
const {body, numberOf} = require('./support')

const TOPIC = 'durable'
// Of these channels, one has a consumer that is cut off in the middle of its work and one has
// never had a consumer.
const HELD = 'held'
const UNTOUCHED = 'untouched'
const DEFER_MS = 1500
// Enough acknowledged messages to be killed after, and more than can come before the kill.
const ENOUGH = 2000
const TOO_MANY = 900_000

// Publishes until nsqd dies under it, while a consumer finishes a third of what it gets,
// requeues a third and holds the rest.
async function publish(cluster) {
  await cluster.createChannel(TOPIC, UNTOUCHED)
  const reader = await cluster.subscribe(TOPIC, HELD, {maxInFlight: 300})
  const finished = []
  reader.on('message', (message) => {
    const n = numberOf(message)
    if (n % 3 === 0) {
      finished.push(n)
      message.finish()
    } else if (n % 3 === 1) {
      message.requeue(1000, false)
    }
  })
  const ready = path.join(cluster.state, 'ready')
  const acknowledged = await publishUntilKilled(await cluster.writer(), ready)
  fs.writeFileSync(notesFile(cluster), JSON.stringify({acknowledged, finished}))
}

// Gives, for each message answered with OK, its number and the time before which it must not
// be delivered, in ms since 1970; 0 for no such time.
async function publishUntilKilled(writer, ready) {
  const acknowledged = []
  for (let n = 0; n < TOO_MANY; n = acknowledged.length) {
    const numbers = Array.from({length: n % 100 === 40 ? 20 : 1}, (_, i) => n + i)
    let due = 0
    try {
      if (n % 100 === 80 || n % 100 === 90) {
        due = Date.now() + DEFER_MS
        await writer.sendDeferred(TOPIC, body(n), DEFER_MS)
      } else {
        await writer.send(TOPIC, numbers.map(body))
      }
    } catch (error) {
      if (fs.existsSync(ready)) return acknowledged
      throw error
    }
    for (const i of numbers) acknowledged.push([i, due])
    if (n < ENOUGH && acknowledged.length >= ENOUGH) fs.writeFileSync(ready, '')
  }
  throw new Error('nobody killed nsqd')
}

// Drains both channels of the new nsqd and looks for what is missing.
async function verify(cluster) {
  const notes = JSON.parse(fs.readFileSync(notesFile(cluster)))
  const dueTimes = new Map(notes.acknowledged)
  console.log(`${dueTimes.size} acknowledged, ${notes.finished.length} finished on one channel`)
  await drain(cluster, UNTOUCHED, new Set(dueTimes.keys()), dueTimes)
  // What was finished may come again: nsqd does not answer FIN.
  const unfinished = new Set(dueTimes.keys())
  for (const n of notes.finished) unfinished.delete(n)
  await drain(cluster, HELD, unfinished, dueTimes)
}

async function drain(cluster, channel, missing, dueTimes) {
  const reader = await cluster.subscribe(TOPIC, channel, {maxInFlight: 500})
  while (missing.size > 0) {
    const message = await reader.next().catch((error) => {
      throw new Error(`${channel}: ${missing.size} acknowledged messages missing`, {cause: error})
    })
    const n = numberOf(message)
    const early = (dueTimes.get(n) ?? 0) - Date.now()
    assert(early <= 10, `${channel}: deferred message ${n} came ${early} ms early`)
    missing.delete(n)
    message.finish()
  }
}

function notesFile(cluster) {
  return path.join(cluster.state, 'notes.json')
}

module.exports = {publish, verify}
