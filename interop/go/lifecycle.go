package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/nsqio/go-nsq"
)

// heartbeats leaves a consumer and a producer idle for six heartbeat intervals. The read
// timeout makes the client hang up by itself when heartbeats do not come; nsqd hangs up
// when they are not answered.
func heartbeats(c cluster) error {
	config := c.config()
	config.HeartbeatInterval = time.Second
	config.ReadTimeout = 3 * time.Second
	c = c.only()
	s, err := c.subscribe("heartbeats", "channel", config)
	if err != nil {
		return err
	}
	producer, producerLog, err := c.producer(0, config)
	if err != nil {
		return err
	}
	idle := &single{c, s, producer, "heartbeats"}
	// A connection counts as a producer only when it has published.
	if err := producer.Publish("heartbeats", []byte("before")); err != nil {
		return err
	}
	m, err := s.next()
	if err != nil {
		return err
	}
	m.Finish()
	before, err := idle.connections()
	if err != nil {
		return err
	}
	if err := s.quiet(6 * time.Second); err != nil {
		return err
	}
	for who, log := range map[string]*eventLog{"consumer": s.log, "producer": producerLog} {
		if beats := log.count("heartbeat received"); beats < 4 || beats > 8 {
			return fmt.Errorf("the %s got %d heartbeats in 6 s", who, beats)
		}
	}
	after, err := idle.connections()
	if err != nil {
		return err
	}
	if before != after {
		return fmt.Errorf("connections changed from %s to %s", before, after)
	}
	return idle.stillWorks()
}

// stop ends a consumer that holds messages: CLS, CLOSE_WAIT, the answers still count, and
// what it never got goes to the next one, at its first attempt.
func stop(c cluster) error {
	const total, held = 20, 5
	config := c.config()
	config.MaxInFlight = held
	s, err := c.single("stop", config)
	if err != nil {
		return err
	}
	for i := range total {
		if err := s.producer.Publish("stop", body(i)); err != nil {
			return err
		}
	}
	finished := map[int]bool{}
	var inFlight []*nsq.Message
	for range held {
		m, err := s.next()
		if err != nil {
			return err
		}
		inFlight = append(inFlight, m)
	}
	s.consumer.Stop()
	if err := eventually("CLOSE_WAIT", func() (bool, error) {
		return s.log.count("received CLOSE_WAIT") == 1, nil
	}); err != nil {
		return err
	}
	for _, m := range inFlight {
		n, err := number(m.Body)
		if err != nil {
			return err
		}
		finished[n] = true
		m.Finish()
	}
	if err := s.stop(); err != nil {
		return err
	}
	if err := s.quiet(0); err != nil {
		return fmt.Errorf("delivered after CLS: %w", err)
	}
	if err := s.await("stop", "channel", "client gone, its answers counted", func(stats channelStats) bool {
		return stats.ClientCount == 0 && stats.InFlight == 0 && stats.Depth == total-held
	}); err != nil {
		return err
	}
	return expectRest(c.only(), finished, total)
}

func expectRest(c cluster, finished map[int]bool, total int) error {
	next, err := c.subscribe("stop", "channel", c.config())
	if err != nil {
		return err
	}
	for len(finished) < total {
		m, err := next.next()
		if err != nil {
			return err
		}
		n, err := number(m.Body)
		if err != nil {
			return err
		}
		if finished[n] || m.Attempts != 1 {
			return fmt.Errorf("message %d came again, attempt %d", n, m.Attempts)
		}
		finished[n] = true
		m.Finish()
	}
	return next.stop()
}

// badTopic publishes to a name nsqd refuses: the error reaches the caller and the producer
// goes on, on a new connection because nsqd closes the old one.
func badTopic(c cluster) error {
	s, err := c.single("bad_topic", c.config())
	if err != nil {
		return err
	}
	err = s.producer.Publish("bad*topic", []byte("refused"))
	if err == nil || !strings.HasPrefix(err.Error(), "E_BAD_TOPIC") {
		return fmt.Errorf("publishing to a bad topic answered %v", err)
	}
	if err := eventually("publish after the error", func() (bool, error) {
		return s.producer.Publish("bad_topic", []byte("accepted")) == nil, nil
	}); err != nil {
		return err
	}
	m, err := s.next()
	if err != nil {
		return err
	}
	if err := attempt(m, "accepted", 1); err != nil {
		return err
	}
	m.Finish()
	return s.settled()
}
