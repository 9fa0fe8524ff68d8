// Runs one scenario of nsqjs against the nsqd processes named in the environment.
//
// NSQD_TCP and NSQD_HTTP hold their addresses, separated by commas, STATE the folder in which
// the two halves of the durable scenario leave each other notes, LATE_MS how late a message may
// come for which nsqd had to wait. TRANSPORT names the layers between client and nsqd, joined
// with +; CERTIFICATES is the folder of the certificates and AUTH_SECRET the secret they take.
'use strict'

const delivery = require('./delivery')
const durable = require('./durable')
const lifecycle = require('./lifecycle')
const outcomes = require('./outcomes')
const secured = require('./secured')
const {Cluster} = require('./support')

const SCENARIOS = {
  publish_and_consume: delivery.publishAndConsume,
  discovery: delivery.discovery,
  transport: secured.overTransport,
  refused: secured.refused,
  requeue: outcomes.requeue,
  touch: outcomes.touch,
  timeout: outcomes.timeout,
  deferred: outcomes.deferred,
  heartbeats: lifecycle.heartbeats,
  stop: lifecycle.stop,
  bad_topic: lifecycle.badTopic,
  durable_publish: durable.publish,
  durable_verify: durable.verify,
}

const scenario = process.argv.length === 3 && SCENARIOS[process.argv[2]]
if (!scenario) {
  console.error('usage: scenarios.js SCENARIO')
  process.exit(64)
}
scenario(Cluster.fromEnvironment()).then(
  () => process.exit(0),
  (error) => {
    console.error(error.stack)
    process.exit(1)
  }
)
