package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nsqio/go-nsq"
)

// cluster names the nsqd processes a scenario talks to.
type cluster struct {
	tcp   []string
	http  []string
	state string
	late  time.Duration
	// lookupd holds the nsqlookupds through which a consumer finds the nsqds, if it is to.
	lookupd   []string
	transport transport
}

// patience bounds every wait for something that should happen at once.
const patience = 10 * time.Second

type channelStats struct {
	Name         string        `json:"channel_name"`
	Depth        int           `json:"depth"`
	InFlight     int           `json:"in_flight_count"`
	Deferred     int           `json:"deferred_count"`
	MessageCount int           `json:"message_count"`
	RequeueCount int           `json:"requeue_count"`
	TimeoutCount int           `json:"timeout_count"`
	ClientCount  int           `json:"client_count"`
	Clients      []clientStats `json:"clients"`
}

type clientStats struct {
	RemoteAddress string `json:"remote_address"`
	TLS           bool   `json:"tls"`
	Snappy        bool   `json:"snappy"`
	Deflate       bool   `json:"deflate"`
	Authed        bool   `json:"authed"`
	AuthIdentity  string `json:"auth_identity"`
}

type nodeStats struct {
	Topics []struct {
		Name     string         `json:"topic_name"`
		Channels []channelStats `json:"channels"`
	} `json:"topics"`
	Producers []struct {
		clientStats
		PubCounts []struct {
			Topic string `json:"topic"`
		} `json:"pub_counts"`
	} `json:"producers"`
}

// stats asks one nsqd for everything it knows.
func (c cluster) stats(node int) (nodeStats, error) {
	var all nodeStats
	response, err := http.Get("http://" + c.http[node] + "/stats?format=json")
	if err != nil {
		return all, err
	}
	defer response.Body.Close()
	return all, json.NewDecoder(response.Body).Decode(&all)
}

// channel gives the statistics of one channel; zero values when it does not exist.
func (c cluster) channel(node int, topic, channel string) (channelStats, error) {
	all, err := c.stats(node)
	if err != nil {
		return channelStats{}, err
	}
	for _, t := range all.Topics {
		for _, ch := range t.Channels {
			if t.Name == topic && ch.Name == channel {
				return ch, nil
			}
		}
	}
	return channelStats{}, nil
}

// await polls a channel on every node until the condition holds on each of them.
func (c cluster) await(topic, channel, what string, holds func(channelStats) bool) error {
	for node := range c.http {
		err := eventually(fmt.Sprintf("%s/%s on nsqd %d: %s", topic, channel, node, what), func() (bool, error) {
			stats, err := c.channel(node, topic, channel)
			return holds(stats), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// createEverywhere makes a channel on every node.
func (c cluster) createEverywhere(topic, channel string) error {
	for node := range c.http {
		single := c
		single.http = c.http[node : node+1]
		if err := single.createChannel(topic, channel); err != nil {
			return err
		}
	}
	return nil
}

// createChannel makes a channel on the first node without subscribing to it.
func (c cluster) createChannel(topic, channel string) error {
	for _, path := range []string{"/topic/create?topic=" + topic, "/channel/create?topic=" + topic + "&channel=" + channel} {
		response, err := http.Post("http://"+c.http[0]+path, "", nil)
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("POST %s answered %s", path, response.Status)
		}
	}
	return nil
}

// only narrows the cluster to its first node.
func (c cluster) only() cluster {
	c.tcp, c.http = c.tcp[:1], c.http[:1]
	return c
}

func eventually(what string, holds func() (bool, error)) error {
	deadline := time.Now().Add(patience)
	for {
		ok, err := holds()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if ok {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %s", what, patience)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// eventLog counts what the client library only tells its logger.
type eventLog struct {
	mutex sync.Mutex
	lines []string
}

// Output takes one line of the library's log.
func (l *eventLog) Output(_ int, line string) error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

func (l *eventLog) count(text string) int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	found := 0
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			found++
		}
	}
	return found
}

// subscription is a consumer whose messages wait in an inbox until a scenario answers them.
type subscription struct {
	consumer *nsq.Consumer
	inbox    chan *nsq.Message
	log      *eventLog
}

func (c cluster) subscribe(topic, channel string, config *nsq.Config) (*subscription, error) {
	consumer, err := nsq.NewConsumer(topic, channel, config)
	if err != nil {
		return nil, err
	}
	s := &subscription{consumer: consumer, inbox: make(chan *nsq.Message, 100_000), log: &eventLog{}}
	consumer.SetLogger(s.log, nsq.LogLevelDebug)
	consumer.AddConcurrentHandlers(nsq.HandlerFunc(func(m *nsq.Message) error {
		m.DisableAutoResponse()
		s.inbox <- m
		return nil
	}), 4)
	connect, addresses := consumer.ConnectToNSQDs, c.tcp
	if len(c.lookupd) > 0 {
		connect, addresses = consumer.ConnectToNSQLookupds, c.lookupd
	}
	if err := connect(addresses); err != nil {
		return nil, err
	}
	return s, c.await(topic, channel, "one subscriber", func(stats channelStats) bool { return stats.ClientCount >= 1 })
}

// next waits for one message.
func (s *subscription) next() (*nsq.Message, error) {
	select {
	case m := <-s.inbox:
		return m, nil
	case <-time.After(patience):
		return nil, fmt.Errorf("no message within %s", patience)
	}
}

// quiet fails when a message comes within the given time.
func (s *subscription) quiet(during time.Duration) error {
	select {
	case m := <-s.inbox:
		return fmt.Errorf("unexpected message %.40q, attempt %d", m.Body, m.Attempts)
	case <-time.After(during):
		return nil
	}
}

// stop closes the consumer the way an application does and waits until it is done.
func (s *subscription) stop() error {
	s.consumer.Stop()
	select {
	case <-s.consumer.StopChan:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("consumer did not stop within %s", patience)
	}
}

func (c cluster) producer(node int, config *nsq.Config) (*nsq.Producer, *eventLog, error) {
	producer, err := nsq.NewProducer(c.tcp[node], config)
	if err != nil {
		return nil, nil, err
	}
	log := &eventLog{}
	producer.SetLogger(log, nsq.LogLevelDebug)
	return producer, log, producer.Ping()
}

// table holds enough of a pattern with all byte values to cut every body from.
var table = bytes.Repeat(func() []byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return all
}(), 120)

// body makes the body with a number: the number, then binary of a length that varies from
// nothing to more than a read buffer.
func body(number int) []byte {
	size := number % 7 * 40
	if number%500 == 0 {
		size = 20_000
	}
	from := number % 256
	return append([]byte(fmt.Sprintf("%06d:", number)), table[from:from+size]...)
}

// number reads a body back and fails when it is not the one that was made.
func number(b []byte) (int, error) {
	if len(b) < 7 {
		return 0, fmt.Errorf("body of %d bytes: %q", len(b), b)
	}
	n, err := strconv.Atoi(string(b[:6]))
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(b, body(n)) {
		return 0, fmt.Errorf("body %d was changed on its way", n)
	}
	return n, nil
}

// onTime fails when something with a delay took less (but for the resolution of clocks), or
// more than is allowed for lateness.
func (c cluster) onTime(what string, took, delay time.Duration) error {
	const tick = 10 * time.Millisecond
	if took < delay-tick || took > delay+c.late {
		return fmt.Errorf("%s came after %s, not between %s and %s", what, took, delay, delay+c.late)
	}
	return nil
}

// attempt fails when a message is not this body at this attempt.
func attempt(m *nsq.Message, wantBody string, wantAttempts uint16) error {
	if string(m.Body) != wantBody || m.Attempts != wantAttempts {
		return fmt.Errorf("got %q at attempt %d, wanted %q at attempt %d", m.Body, m.Attempts, wantBody, wantAttempts)
	}
	return nil
}
