// The layers between a client and nsqd besides the TCP connection.
'use strict'

const fs = require('fs')
const path = require('path')

class Transport {
  // `layers` are names such as tls and snappy, `files` is the folder of the certificates,
  // `secret` the one for AUTH, where that is a layer.
  constructor(layers, files, secret) {
    Object.assign(this, {layers: new Set(layers), files, secret})
  }

  // Reads names joined with +, such as tls+snappy. Those that concern only the server side,
  // such as unix, change nothing here.
  static fromEnvironment() {
    const {TRANSPORT = '', CERTIFICATES = '', AUTH_SECRET = ''} = process.env
    return new Transport(TRANSPORT.split('+'), CERTIFICATES, AUTH_SECRET)
  }

  // The options of nsqjs for a connection over this transport.
  options() {
    const options = {}
    for (const layer of ['tls', 'snappy', 'deflate']) options[layer] = this.layers.has(layer)
    if (this.layers.has('auth')) options.authSecret = this.secret
    if (this.layers.has('tls')) options.ca = this.read('ca.pem')
    if (this.layers.has('certificate')) Object.assign(options, this.certificate('client'))
    return options
  }

  certificate(name) {
    return {cert: this.read(`${name}.pem`), key: this.read(`${name}.key`)}
  }

  read(file) {
    return fs.readFileSync(path.join(this.files, file))
  }

  // The same as nsqd reports it of a connection.
  inStats() {
    const expected = {}
    for (const layer of ['tls', 'snappy', 'deflate']) expected[layer] = this.layers.has(layer)
    if (this.layers.has('auth')) {
      expected.authed = true
      expected.auth_identity = this.layers.has('certificate') ? 'client.interop' : 'interop'
    }
    return expected
  }
}

module.exports = {Transport}
