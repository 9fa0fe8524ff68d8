package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
)

// sizes of bodies around the buffers, chunks and limits on their way: a frame, nsqd's output
// buffer, a TLS record, a snappy chunk, the largest message.
var sizes = []int{1, 2, 100, 4095, 4096, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 300_000, 1 << 20}

// everySize publishes bodies of every size, compressible and not, first each for itself and
// then in batches, and expects each of them twice.
func everySize(c cluster) error {
	const topic = "every_size"
	bodies, err := bodiesOfEverySize()
	if err != nil {
		return err
	}
	config := c.config()
	config.MaxInFlight = 5
	s, err := c.subscribe(topic, "channel", config)
	if err != nil {
		return err
	}
	producer, _, err := c.producer(0, config)
	if err != nil {
		return err
	}
	defer producer.Stop()
	errs := make(chan error, 1)
	go func() { errs <- s.expectTwice(bodies) }()
	for _, body := range bodies {
		if err := producer.Publish(topic, body); err != nil {
			return fmt.Errorf("publish %d bytes: %w", len(body), err)
		}
	}
	for half := range 2 {
		batch := bodies[half*len(sizes) : (half+1)*len(sizes)]
		if err := producer.MultiPublish(topic, batch); err != nil {
			return fmt.Errorf("multi-publish: %w", err)
		}
	}
	if err := <-errs; err != nil {
		return err
	}
	if err := c.usedBy(topic); err != nil {
		return err
	}
	return s.stop()
}

// bodiesOfEverySize makes a text of each size and then noise of each size.
func bodiesOfEverySize() ([][]byte, error) {
	largest := sizes[len(sizes)-1]
	text := []byte(strings.Repeat("nsq is a realtime distributed messaging platform. ", largest/50+1))
	noise := make([]byte, largest)
	if _, err := rand.Read(noise); err != nil {
		return nil, err
	}
	// So that no text begins like noise.
	noise[0] |= 0x80
	var bodies [][]byte
	for _, source := range [][]byte{text, noise} {
		for _, size := range sizes {
			bodies = append(bodies, source[:size])
		}
	}
	return bodies, nil
}

func (s *subscription) expectTwice(bodies [][]byte) error {
	missing := map[string]int{}
	for _, body := range bodies {
		missing[string(body)] = 2
	}
	for received := range 2 * len(bodies) {
		m, err := s.next()
		if err != nil {
			return fmt.Errorf("after %d of %d: %w", received, 2*len(bodies), err)
		}
		if missing[string(m.Body)] == 0 {
			return fmt.Errorf("unexpected or changed message of %d bytes: %.40q", len(m.Body), m.Body)
		}
		missing[string(m.Body)]--
		m.Finish()
	}
	return nil
}

// usedBy checks the transport of every connection of a topic on the first node.
func (c cluster) usedBy(topic string) error {
	stats, err := c.stats(0)
	if err != nil {
		return err
	}
	var clients []clientStats
	for _, t := range stats.Topics {
		for _, channel := range t.Channels {
			if t.Name == topic {
				clients = append(clients, channel.Clients...)
			}
		}
	}
	for _, producer := range stats.Producers {
		if len(producer.PubCounts) > 0 && producer.PubCounts[0].Topic == topic {
			clients = append(clients, producer.clientStats)
		}
	}
	if len(clients) < 2 {
		return errors.New("nsqd does not list the consumer and the producer")
	}
	for _, client := range clients {
		if err := c.transport.used(client); err != nil {
			return err
		}
	}
	return nil
}
