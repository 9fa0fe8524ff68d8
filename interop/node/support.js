// What the scenarios share: the nsqds, a reader with an inbox, a writer that can be awaited.
'use strict'

const {strict: assert} = require('assert')
const {setTimeout: sleep} = require('timers/promises')
const nsq = require('nsqjs')
const {Transport} = require('./transport')

// Bounds every wait for something that should happen at once.
const PATIENCE_MS = 10_000
// The resolution granted to two clocks.
const TICK_MS = 10

async function eventually(what, holds) {
  const deadline = Date.now() + PATIENCE_MS
  while (!(await holds())) {
    assert(Date.now() < deadline, `${what}: not within ${PATIENCE_MS} ms`)
    await sleep(20)
  }
}

// The nsqd processes a scenario talks to.
class Cluster {
  // `lookupd` holds the nsqlookupds through which a reader finds the nsqds, if it is to.
  constructor(tcp, http, state, lateMs, transport, lookupd = []) {
    Object.assign(this, {tcp, http, state, lateMs, transport, lookupd})
  }

  static fromEnvironment() {
    const {NSQD_TCP, NSQD_HTTP, STATE, LATE_MS, LOOKUPD_HTTP = ''} = process.env
    const lookupd = LOOKUPD_HTTP.split(',').filter(Boolean)
    const [tcp, http] = [NSQD_TCP, NSQD_HTTP].map((addresses) => addresses.split(','))
    return new Cluster(tcp, http, STATE, Number(LATE_MS), Transport.fromEnvironment(), lookupd)
  }

  // Narrows the cluster to its first node.
  only() {
    const [tcp, http] = [this.tcp, this.http].map((addresses) => addresses.slice(0, 1))
    return new Cluster(tcp, http, this.state, this.lateMs, this.transport)
  }

  async stats(node = 0) {
    const answer = await fetch(`http://${this.http[node]}/stats?format=json`)
    assert.equal(answer.status, 200)
    return answer.json()
  }

  // The statistics of a channel, undefined when it does not exist.
  async channel(topic, channel = 'channel', node = 0) {
    const {topics} = await this.stats(node)
    return topics
      .find((t) => t.topic_name === topic)
      ?.channels.find((c) => c.channel_name === channel)
  }

  // Polls a channel on every node until the condition holds on each of them.
  async waitFor(topic, channel, what, holds) {
    for (const node of this.http.keys()) {
      await eventually(`${topic}/${channel} on nsqd ${node}: ${what}`, async () => {
        const stats = await this.channel(topic, channel, node)
        return stats !== undefined && holds(stats)
      })
    }
  }

  settled(topic, channel = 'channel') {
    return this.waitFor(
      topic,
      channel,
      'nothing left',
      (c) => c.depth + c.in_flight_count + c.deferred_count === 0
    )
  }

  // Makes a channel on every node.
  async createEverywhere(topic, channel) {
    for (const node of this.http) await this.createChannel(topic, channel, node)
  }

  // Makes a channel without subscribing to it.
  async createChannel(topic, channel, node = this.http[0]) {
    for (const path of ['topic/create', 'channel/create']) {
      const url = `http://${node}/${path}?topic=${topic}&channel=${channel}`
      assert.equal((await fetch(url, {method: 'POST'})).status, 200)
    }
  }

  async subscribe(topic, channel = 'channel', options = {}) {
    const foundBy = this.lookupd.length
      ? {lookupdHTTPAddresses: this.lookupd}
      : {nsqdTCPAddresses: this.tcp}
    const reader = new InboxReader(topic, channel, {
      ...this.transport.options(),
      ...foundBy,
      ...options,
    })
    reader.connect()
    await this.waitFor(topic, channel, 'one subscriber', (c) => c.client_count >= 1)
    return reader
  }

  async writer(node = 0, options = {}) {
    const [host, port] = this.tcp[node].split(':')
    const writer = new AwaitableWriter(host, Number(port), {
      ...this.transport.options(),
      ...options,
    })
    await writer.open()
    return writer
  }

  // The connections that have published to a topic.
  async producers(topic) {
    return ((await this.stats()).producers ?? []).filter((producer) =>
      producer.pub_counts?.some((count) => count.topic === topic)
    )
  }

  // Both sockets of a scenario as nsqd sees them: a reconnect would change them.
  async connections(topic) {
    const {clients} = await this.channel(topic)
    const producers = await this.producers(topic)
    assert.deepEqual([clients.length, producers.length], [1, 1], 'consumers and producers')
    return [...clients, ...producers].map((c) => c.remote_address)
  }

  // A delay may not be cut short, nor stretched by more than the lateness allowed.
  assertOnTime(what, tookMs, delayMs) {
    const latest = delayMs + this.lateMs
    assert(
      tookMs >= delayMs - TICK_MS && tookMs <= latest,
      `${what} came after ${tookMs} ms, not between ${delayMs} and ${latest} ms`
    )
  }

  // Sends one more message through the connections that are there.
  async assertStillWorks(topic, reader, writer) {
    const before = await this.connections(topic)
    await writer.send(topic, 'still works')
    const message = await reader.next()
    assertMessage(message, 'still works', 1)
    message.finish()
    await this.settled(topic)
    assert.deepEqual(await this.connections(topic), before, 'a connection was replaced')
  }
}

// A reader whose messages wait in an inbox until a scenario answers them.
class InboxReader extends nsq.Reader {
  constructor(...args) {
    super(...args)
    this.inbox = []
    this.errors = []
    this.on('message', (message) => this.inbox.push(message))
    this.on('error', (error) => this.errors.push(error.message))
  }

  async next() {
    const deadline = Date.now() + PATIENCE_MS
    while (this.inbox.length === 0) {
      assert(Date.now() < deadline, `no message within ${PATIENCE_MS} ms`)
      await sleep(1)
    }
    return this.inbox.shift()
  }

  // Fails when a message comes within the given time.
  async quiet(ms) {
    await sleep(ms)
    assert.equal(this.inbox.length, 0, 'unexpected message')
  }

  // The sockets below the library, to see what it does not tell.
  sockets() {
    return this.readerRdy.connections.map((c) => c.conn.conn)
  }
}

// A writer whose answers can be awaited; a refusal is thrown.
class AwaitableWriter extends nsq.Writer {
  constructor(...args) {
    super(...args)
    this.on('error', () => {})
  }

  // Connects, also for the second time after nsqd has hung up.
  open() {
    return new Promise((resolve, reject) => {
      this.once('ready', resolve)
      this.once('error', reject)
      this.connect()
    })
  }

  // One message, or several when it is an array.
  send(topic, messages) {
    return answered((done) => this.publish(topic, messages, done))
  }

  sendDeferred(topic, message, delayMs) {
    return answered((done) => this.deferPublish(topic, [message], delayMs, done))
  }

  sockets() {
    return [this.conn.conn]
  }
}

function answered(command) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('nsqd did not answer')), PATIENCE_MS)
    command((error) => {
      clearTimeout(timer)
      if (error) reject(error)
      else resolve()
    })
  })
}

const TABLE = Buffer.alloc(256 * 120, Buffer.from(Array.from({length: 256}, (_, i) => i)))

// Makes the body with a number: the number, then binary of a length that varies from nothing
// to more than a read buffer.
function body(number) {
  const size = number % 500 === 0 ? 20_000 : (number % 7) * 40
  const start = number % 256
  const head = Buffer.from(`${String(number).padStart(6, '0')}:`)
  return Buffer.concat([head, TABLE.subarray(start, start + size)])
}

// Reads a body back and fails when it is not the one that was made.
function numberOf(message) {
  const number = Number(message.body.subarray(0, 6).toString())
  assert(body(number).equals(message.body), `body ${number} was changed on its way`)
  return number
}

function assertMessage(message, wantedBody, wantedAttempts) {
  assert.deepEqual([message.body.toString(), message.attempts], [wantedBody, wantedAttempts])
}

module.exports = {Cluster, assertMessage, body, eventually, numberOf, sleep}
