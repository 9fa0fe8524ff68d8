package main

import (
	"fmt"
	"time"

	"github.com/nsqio/go-nsq"
)

const msgTimeout = time.Second

// single is a topic with one subscribed channel on one node and a producer for it.
type single struct {
	cluster
	*subscription
	producer *nsq.Producer
	topic    string
}

func (c cluster) single(topic string, config *nsq.Config) (*single, error) {
	c = c.only()
	s, err := c.subscribe(topic, "channel", config)
	if err != nil {
		return nil, err
	}
	producer, _, err := c.producer(0, config)
	return &single{c, s, producer, topic}, err
}

func (s *single) settled() error {
	return s.await(s.topic, "channel", "nothing left", func(stats channelStats) bool {
		return stats.Depth+stats.InFlight+stats.Deferred == 0
	})
}

// requeue sends a message back at once and then with a delay; attempts count up.
func requeue(c cluster) error {
	config := c.config()
	config.BackoffMultiplier = 100 * time.Millisecond
	s, err := c.single("requeue", config)
	if err != nil {
		return err
	}
	if err := s.producer.Publish("requeue", []byte("again")); err != nil {
		return err
	}
	first, err := s.next()
	if err != nil {
		return err
	}
	if err := attempt(first, "again", 1); err != nil {
		return err
	}
	first.RequeueWithoutBackoff(0)
	second, err := s.next()
	if err != nil {
		return err
	}
	if err := attempt(second, "again", 2); err != nil {
		return err
	}
	// This one makes the client back off: RDY 0, then RDY 1, then all of it.
	sent := time.Now()
	second.Requeue(500 * time.Millisecond)
	third, err := s.next()
	if err != nil {
		return err
	}
	if err := attempt(third, "again", 3); err != nil {
		return err
	}
	if err := s.onTime("delayed requeue", time.Since(sent), 500*time.Millisecond); err != nil {
		return err
	}
	if first.ID != second.ID || second.ID != third.ID {
		return fmt.Errorf("the id changed: %s, %s, %s", first.ID, second.ID, third.ID)
	}
	third.Finish()
	return s.settled()
}

// touch keeps a message for three times its timeout.
func touch(c cluster) error {
	config := c.config()
	config.MsgTimeout = msgTimeout
	s, err := c.single("touch", config)
	if err != nil {
		return err
	}
	if err := s.producer.Publish("touch", []byte("slow")); err != nil {
		return err
	}
	m, err := s.next()
	if err != nil {
		return err
	}
	for range 10 {
		if err := s.quiet(3 * msgTimeout / 10); err != nil {
			return err
		}
		m.Touch()
	}
	m.Finish()
	if err := s.settled(); err != nil {
		return err
	}
	stats, err := s.channel(0, "touch", "channel")
	if err != nil {
		return err
	}
	if stats.TimeoutCount != 0 {
		return fmt.Errorf("%d timeouts in spite of TOUCH", stats.TimeoutCount)
	}
	return s.refusedNothing()
}

// timeout leaves a message unanswered: it comes again, and an answer to a delivery that is
// over is refused without harm to the connection.
func timeout(c cluster) error {
	config := c.config()
	config.MsgTimeout = msgTimeout
	s, err := c.single("timeout", config)
	if err != nil {
		return err
	}
	sent := time.Now()
	if err := s.producer.Publish("timeout", []byte("forgotten")); err != nil {
		return err
	}
	first, err := s.next()
	if err != nil {
		return err
	}
	second, err := s.next()
	if err != nil {
		return err
	}
	if err := s.onTime("timed out message", time.Since(sent), msgTimeout); err != nil {
		return err
	}
	if err := attempt(second, "forgotten", 2); err != nil {
		return err
	}
	if err := s.refusedNothing(); err != nil {
		return err
	}
	second.Finish()
	if err := s.settled(); err != nil {
		return err
	}
	first.Finish()
	if err := eventually("late FIN refused", func() (bool, error) {
		return s.log.count("E_FIN_FAILED") == 1, nil
	}); err != nil {
		return err
	}
	return s.stillWorks()
}

// deferred publishes with a delay and without: the second overtakes, the first is on time.
func deferred(c cluster) error {
	const delay = 800 * time.Millisecond
	config := c.config()
	config.MaxInFlight = 10
	s, err := c.single("deferred", config)
	if err != nil {
		return err
	}
	sent := time.Now()
	if err := s.producer.DeferredPublish("deferred", delay, []byte("later")); err != nil {
		return err
	}
	if err := s.producer.Publish("deferred", []byte("now")); err != nil {
		return err
	}
	now, err := s.next()
	if err != nil {
		return err
	}
	if err := attempt(now, "now", 1); err != nil {
		return err
	}
	now.Finish()
	later, err := s.next()
	if err != nil {
		return err
	}
	if err := s.onTime("deferred message", time.Since(sent), delay); err != nil {
		return err
	}
	if err := attempt(later, "later", 1); err != nil {
		return err
	}
	later.Finish()
	return s.settled()
}

// refusedNothing fails when nsqd has answered a command of this consumer with an error.
func (s *single) refusedNothing() error {
	if s.log.count("protocol error") != 0 {
		return fmt.Errorf("nsqd refused a command: %q", s.log.lines)
	}
	return nil
}

// stillWorks sends one more message through the connections that are there.
func (s *single) stillWorks() error {
	before, err := s.connections()
	if err != nil {
		return err
	}
	if err := s.producer.Publish(s.topic, []byte("still works")); err != nil {
		return err
	}
	m, err := s.next()
	if err != nil {
		return err
	}
	if err := attempt(m, "still works", 1); err != nil {
		return err
	}
	m.Finish()
	if err := s.settled(); err != nil {
		return err
	}
	after, err := s.connections()
	if err != nil {
		return err
	}
	if before != after {
		return fmt.Errorf("connections changed from %s to %s", before, after)
	}
	return nil
}

// connections names both sockets of the scenario as nsqd sees them: a reconnect would change them.
func (s *single) connections() (string, error) {
	all, err := s.stats(0)
	if err != nil {
		return "", err
	}
	channel, err := s.channel(0, s.topic, "channel")
	if err != nil {
		return "", err
	}
	var addresses []string
	for _, client := range channel.Clients {
		addresses = append(addresses, client.RemoteAddress)
	}
	for _, producer := range all.Producers {
		if len(producer.PubCounts) > 0 && producer.PubCounts[0].Topic == s.topic {
			addresses = append(addresses, producer.RemoteAddress)
		}
	}
	if len(channel.Clients) != 1 || len(addresses) != 2 {
		return "", fmt.Errorf("connections are %v, not one consumer and one producer", addresses)
	}
	return fmt.Sprint(addresses), nil
}
