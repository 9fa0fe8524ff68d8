package main

import (
	"fmt"
	"time"

	"github.com/nsqio/go-nsq"
)

// publishAndConsume spreads messages over all nodes, half as single publishes and half in
// batches, and expects each of them exactly once on each of two channels.
func publishAndConsume(c cluster) error {
	return roundTrip(c, "publish_and_consume", 5000, c.config())
}

// discovery finds all nodes through the nsqlookupds, then does the same with fewer messages.
func discovery(c cluster) error {
	for _, channel := range []string{"first", "second"} {
		if err := c.createEverywhere("discovery", channel); err != nil {
			return err
		}
	}
	config := c.config()
	config.LookupdPollInterval = 100 * time.Millisecond
	return roundTrip(c, "discovery", 600, config)
}

func roundTrip(c cluster, topic string, total int, config *nsq.Config) error {
	config.MaxInFlight = 200
	channels := []string{"first", "second"}
	subscriptions := make([]*subscription, len(channels))
	for i, channel := range channels {
		s, err := c.subscribe(topic, channel, config)
		if err != nil {
			return err
		}
		subscriptions[i] = s
	}
	errs := make(chan error)
	share := total / len(c.tcp)
	for node := range c.tcp {
		go func() { errs <- publishShare(c, node, topic, node*share, (node+1)*share, config) }()
	}
	for _, s := range subscriptions {
		go func() { errs <- s.expectEach(total) }()
	}
	for range len(c.tcp) + len(channels) {
		if err := <-errs; err != nil {
			return err
		}
	}
	for i, channel := range channels {
		if err := c.await(topic, channel, "all finished, none again", func(stats channelStats) bool {
			return stats.MessageCount == share && stats.Depth+stats.InFlight+stats.Deferred == 0 &&
				stats.RequeueCount+stats.TimeoutCount == 0
		}); err != nil {
			return err
		}
		if err := subscriptions[i].quiet(200 * time.Millisecond); err != nil {
			return err
		}
		if err := subscriptions[i].stop(); err != nil {
			return err
		}
	}
	return nil
}

func publishShare(c cluster, node int, topic string, from, to int, config *nsq.Config) error {
	producer, _, err := c.producer(node, config)
	if err != nil {
		return err
	}
	defer producer.Stop()
	middle := (from + to) / 2
	for i := from; i < middle; i++ {
		if err := producer.Publish(topic, body(i)); err != nil {
			return fmt.Errorf("publish %d: %w", i, err)
		}
	}
	for i := middle; i < to; i += 50 {
		var batch [][]byte
		for j := i; j < min(i+50, to); j++ {
			batch = append(batch, body(j))
		}
		if err := producer.MultiPublish(topic, batch); err != nil {
			return fmt.Errorf("multi-publish from %d: %w", i, err)
		}
	}
	return nil
}

// expectEach takes and finishes messages until all numbers have come, each of them once.
func (s *subscription) expectEach(total int) error {
	seen := make([]bool, total)
	for received := range total {
		m, err := s.next()
		if err != nil {
			return fmt.Errorf("after %d of %d: %w", received, total, err)
		}
		n, err := number(m.Body)
		if err != nil {
			return err
		}
		if seen[n] || m.Attempts != 1 {
			return fmt.Errorf("message %d came again, attempt %d", n, m.Attempts)
		}
		seen[n] = true
		m.Finish()
	}
	return nil
}
