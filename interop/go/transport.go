package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/nsqio/go-nsq"
)

// transport is what lies between a client and its nsqd besides the TCP connection.
type transport struct {
	tls, snappy, deflate bool
	// certificate names the certificate that the client shows; empty for none.
	certificate string
	// files is the folder of the certificates.
	files string
	// secret is for AUTH; empty for none.
	secret string
}

// parseTransport reads names joined with +, such as tls+snappy. Names that concern only the
// server side, such as unix, change nothing here.
func parseTransport(names, files, secret string) transport {
	t := transport{files: files}
	for _, name := range strings.Split(names, "+") {
		switch name {
		case "tls":
			t.tls = true
		case "certificate":
			t.certificate = "client"
		case "snappy":
			t.snappy = true
		case "deflate":
			t.deflate = true
		case "auth":
			t.secret = secret
		}
	}
	return t
}

// config gives go-nsq's defaults for connections over the transport of the scenario.
func (c cluster) config() *nsq.Config {
	t := c.transport
	config := nsq.NewConfig()
	config.Snappy = t.snappy
	config.Deflate = t.deflate
	config.AuthSecret = t.secret
	if t.tls {
		config.TlsV1 = true
		set(config, "tls_root_ca_file", filepath.Join(t.files, "ca.pem"))
	}
	if t.certificate != "" {
		pair := filepath.Join(t.files, t.certificate)
		set(config, "tls_cert", pair+".pem")
		set(config, "tls_key", pair+".key")
	}
	return config
}

func set(config *nsq.Config, option, value string) {
	if err := config.Set(option, value); err != nil {
		panic(err)
	}
}

// identity is what the auth server calls the owner of a certificate or of a secret alone.
func (t transport) identity() string {
	switch {
	case t.secret == "":
		return ""
	case t.certificate != "":
		return "client.interop"
	default:
		return "interop"
	}
}

// overTransport delivers small and large messages and has nsqd confirm how the connections
// that carry them are made.
func overTransport(c cluster) error {
	if err := roundTrip(c, "transport", 600, c.config()); err != nil {
		return err
	}
	return everySize(c.only())
}

// used fails when nsqd sees another transport on a connection than the scenario asked for.
func (t transport) used(client clientStats) error {
	want := clientStats{
		RemoteAddress: client.RemoteAddress,
		TLS:           t.tls,
		Snappy:        t.snappy,
		Deflate:       t.deflate,
		Authed:        t.secret != "",
		AuthIdentity:  t.identity(),
	}
	if client != want {
		return fmt.Errorf("nsqd sees the connection %+v, wanted %+v", client, want)
	}
	return nil
}

// refused expects the secured nsqd to turn away every client that lacks something: TLS, a
// certificate, one of the right issuer, the secret, the permission.
func refused(c cluster) error {
	const byAlert = "remote error: tls: "
	for _, attempt := range []struct {
		lacks, answer string
		change        func(*transport)
	}{
		{"TLS", "E_INVALID", func(t *transport) { t.tls, t.certificate = false, "" }},
		{"a certificate", byAlert, func(t *transport) { t.certificate = "" }},
		{"a certificate of the right issuer", byAlert, func(t *transport) { t.certificate = "stranger" }},
		{"a known secret", "E_AUTH_FAILED", func(t *transport) { t.secret = "guessed" }},
		{"permission", "E_UNAUTHORIZED", func(t *transport) { t.secret = "subscribe only" }},
	} {
		client := c
		attempt.change(&client.transport)
		if err := client.turnedAway(attempt.answer); err != nil {
			return fmt.Errorf("a client without %s: %w", attempt.lacks, err)
		}
	}
	stats, err := c.stats(0)
	if err != nil {
		return err
	}
	if len(stats.Topics) != 0 {
		return fmt.Errorf("topics were created: %+v", stats.Topics)
	}
	return nil
}

// turnedAway publishes and expects an error with this text in it, or in what the library tells its log.
func (c cluster) turnedAway(text string) error {
	producer, err := nsq.NewProducer(c.tcp[0], c.config())
	if err != nil {
		return err
	}
	log := &eventLog{}
	producer.SetLogger(log, nsq.LogLevelDebug)
	defer producer.Stop()
	err = producer.Publish("refused", []byte("refused"))
	if err == nil {
		return errors.New("may publish")
	}
	if !strings.Contains(err.Error(), text) && log.count(text) == 0 {
		return fmt.Errorf("got %q and %q, not %q", err, log.lines, text)
	}
	return nil
}
