// Delivery over TLS, compression and AUTH, and clients that are turned away.
'use strict'

const {strict: assert} = require('assert')
const crypto = require('crypto')
const nsq = require('nsqjs')
const {roundTrip} = require('./delivery')
const {eventually} = require('./support')

// Sizes of bodies around the buffers, chunks and limits on their way: a frame, nsqd's output
// buffer, a TLS record, a snappy chunk, the largest message.
const SIZES = [1, 2, 100, 4095, 4096, 16383, 16384, 16385, 65535, 65536, 65537, 300_000, 1 << 20]

// Delivers small and large messages and has nsqd confirm how the connections that carry them
// are made.
async function overTransport(cluster) {
  await roundTrip(cluster, 'transport', 600, {})
  await everySize(cluster.only())
}

// Publishes bodies of every size, compressible and not, first each for itself and then in
// batches, and expects each of them twice.
async function everySize(cluster) {
  const topic = 'every_size'
  const reader = await cluster.subscribe(topic, 'channel', {maxInFlight: 5})
  const writer = await cluster.writer()
  const bodies = bodiesOfEverySize()
  const publish = async () => {
    for (const body of bodies) await writer.send(topic, body)
    await writer.send(topic, bodies.slice(0, SIZES.length))
    await writer.send(topic, bodies.slice(SIZES.length))
  }
  await Promise.all([publish(), expectTwice(reader, bodies)])
  await checkTransport(cluster, topic)
}

// Makes a text of each size and then noise of each size.
function bodiesOfEverySize() {
  const largest = SIZES.at(-1)
  const text = Buffer.alloc(largest, 'nsq is a realtime distributed messaging platform. ')
  const noise = crypto.randomBytes(largest)
  // No text begins like noise.
  noise[0] |= 0x80
  return [text, noise].flatMap((source) => SIZES.map((size) => source.subarray(0, size)))
}

async function expectTwice(reader, bodies) {
  const missing = new Map(bodies.map((body) => [digest(body), 2]))
  for (let left = 2 * bodies.length; left > 0; left--) {
    const message = await reader.next()
    const key = digest(message.body)
    assert(missing.get(key) > 0, `unexpected or changed message of ${message.body.length} bytes`)
    missing.set(key, missing.get(key) - 1)
    message.finish()
  }
}

function digest(body) {
  return crypto.createHash('sha256').update(body).digest('hex')
}

// Checks how nsqd sees the connections of a topic.
async function checkTransport(cluster, topic) {
  const {clients} = await cluster.channel(topic)
  const producers = await cluster.producers(topic)
  assert(clients.length && producers.length, 'nsqd does not list the consumer and the producer')
  const expected = cluster.transport.inStats()
  for (const connection of [...clients, ...producers]) {
    const seen = Object.fromEntries(Object.keys(expected).map((key) => [key, connection[key]]))
    assert.deepEqual(seen, expected, 'the connection as nsqd sees it')
  }
}

// Expects the secured nsqd to turn away every client that lacks something: TLS, a certificate,
// one of the right issuer, the secret, the permission.
async function refused(cluster) {
  const {cert, key, ...without} = cluster.transport.options()
  const whole = {cert, key, ...without}
  const foreign = {...whole, ...cluster.transport.certificate('stranger')}
  await turnedAway(cluster, 'TLS', {...whole, tls: false}, /E_INVALID/)
  await turnedAway(cluster, 'a certificate', without, /certificate required/)
  await turnedAway(cluster, 'a certificate of the right issuer', foreign, /unknown ca/)
  await turnedAway(cluster, 'a known secret', {...whole, authSecret: 'guessed'}, /E_AUTH_FAILED/)
  const permitted = {...whole, authSecret: 'subscribe only'}
  await turnedAway(cluster, 'permission', permitted, /E_UNAUTHORIZED/)
  assert.deepEqual((await cluster.stats()).topics, [])
}

// Connects and publishes as soon as the library lets it, until nsqd or TLS has refused.
async function turnedAway(cluster, lacks, options, answer) {
  const [host, port] = cluster.tcp[0].split(':')
  const writer = new nsq.Writer(host, Number(port), options)
  const complaints = []
  let accepted = false
  writer.on('error', (error) => complaints.push(error.message))
  writer.on('ready', () =>
    writer.publish('refused', 'refused', (error) => {
      if (error) complaints.push(error.message)
      else accepted = true
    })
  )
  writer.connect()
  await eventually(`a client without ${lacks} is refused`, () => accepted || complaints.length > 0)
  assert(!accepted, `a client without ${lacks} may publish`)
  assert.match(complaints.join('; '), answer, `a client without ${lacks}`)
}

module.exports = {overTransport, refused}
