package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nsqio/go-nsq"
)

const (
	durableTopic = "durable"
	// Of these channels, one has a consumer that is cut off in the middle of its work and
	// one has never had a consumer.
	heldChannel      = "held"
	untouchedChannel = "untouched"
	deferDelay       = 1500 * time.Millisecond
)

// notes is what the first half knows when nsqd has been killed.
type notes struct {
	// Acknowledged has, for each message that was answered with OK, the time before which
	// it must not be delivered, in ms since 1970; 0 for no such time.
	Acknowledged map[int]int64
	// Finished are the messages for which FIN was sent on the held channel. They may come
	// again: nsqd does not answer FIN.
	Finished map[int]bool
}

// durablePublish publishes until nsqd dies under it, while a consumer finishes a third of
// what it gets, requeues a third and holds the rest.
func durablePublish(c cluster) error {
	if err := c.createChannel(durableTopic, untouchedChannel); err != nil {
		return err
	}
	config := c.config()
	config.MaxInFlight = 300
	held, err := c.subscribe(durableTopic, heldChannel, config)
	if err != nil {
		return err
	}
	known := notes{Acknowledged: map[int]int64{}, Finished: map[int]bool{}}
	var mutex sync.Mutex
	go func() {
		for m := range held.inbox {
			n, err := number(m.Body)
			if err != nil {
				panic(err)
			}
			switch n % 3 {
			case 0:
				mutex.Lock()
				known.Finished[n] = true
				mutex.Unlock()
				m.Finish()
			case 1:
				m.RequeueWithoutBackoff(time.Second)
			}
		}
	}()
	producer, _, err := c.producer(0, config)
	if err != nil {
		return err
	}
	if err := publishUntilKilled(c, producer, known.Acknowledged); err != nil {
		return err
	}
	mutex.Lock()
	defer mutex.Unlock()
	text, err := json.Marshal(known)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.state, "notes.json"), text, 0o600)
}

// publishUntilKilled says that it is ready to be cut off once enough has been acknowledged.
func publishUntilKilled(c cluster, producer *nsq.Producer, acknowledged map[int]int64) error {
	const enough, tooMany = 2000, 900_000
	ready := false
	for i := 0; i < tooMany; {
		batch := [][]byte{body(i)}
		var due int64
		var err error
		switch i % 100 {
		case 40:
			for j := i + 1; j < i+20; j++ {
				batch = append(batch, body(j))
			}
			err = producer.MultiPublish(durableTopic, batch)
		case 80, 90:
			due = time.Now().Add(deferDelay).UnixMilli()
			err = producer.DeferredPublish(durableTopic, deferDelay, batch[0])
		default:
			err = producer.Publish(durableTopic, batch[0])
		}
		if err != nil {
			if !ready {
				return fmt.Errorf("publish %d: %w", i, err)
			}
			return nil
		}
		for range batch {
			acknowledged[i] = due
			i++
		}
		if !ready && i >= enough {
			ready = true
			if err := os.WriteFile(filepath.Join(c.state, "ready"), nil, 0o600); err != nil {
				return err
			}
		}
	}
	return errors.New("nobody killed nsqd")
}

// durableVerify drains both channels of the new nsqd and looks for what is missing.
func durableVerify(c cluster) error {
	text, err := os.ReadFile(filepath.Join(c.state, "notes.json"))
	if err != nil {
		return err
	}
	var known notes
	if err := json.Unmarshal(text, &known); err != nil {
		return err
	}
	fmt.Printf("%d acknowledged, %d finished on one channel\n", len(known.Acknowledged), len(known.Finished))
	for _, channel := range []string{untouchedChannel, heldChannel} {
		missing := map[int]bool{}
		for n := range known.Acknowledged {
			missing[n] = channel == untouchedChannel || !known.Finished[n]
			if !missing[n] {
				delete(missing, n)
			}
		}
		if err := drain(c, channel, missing, known.Acknowledged); err != nil {
			return fmt.Errorf("channel %s: %w", channel, err)
		}
	}
	return nil
}

func drain(c cluster, channel string, missing map[int]bool, dueTimes map[int]int64) error {
	config := c.config()
	config.MaxInFlight = 500
	s, err := c.subscribe(durableTopic, channel, config)
	if err != nil {
		return err
	}
	for len(missing) > 0 {
		m, err := s.next()
		if err != nil {
			return fmt.Errorf("%d acknowledged messages are missing: %w", len(missing), err)
		}
		n, err := number(m.Body)
		if err != nil {
			return err
		}
		if early := dueTimes[n] - time.Now().UnixMilli(); early > 10 {
			return fmt.Errorf("deferred message %d came %d ms early", n, early)
		}
		delete(missing, n)
		m.Finish()
	}
	return s.stop()
}
