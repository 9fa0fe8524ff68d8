// Command go-nsq is the Go client under test in `nsq-bench client`. What it reads and writes is
// described in bench/src/client/child.rs.
package main

import (
	"bufio"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nsqio/go-nsq"
)

var (
	topic       = flag.String("topic", "", "topic")
	channel     = flag.String("channel", "", "channel")
	addresses   = flag.String("addresses", "", "nsqds, with commas between")
	messages    = flag.Int64("messages", 0, "messages to receive or to publish")
	bodyBytes   = flag.Int("body-bytes", 0, "bytes of a body")
	batch       = flag.Int("batch", 1, "messages in a publish")
	window      = flag.Int("window", 0, "publishes without an answer")
	handlers    = flag.Int("handlers", 1, "concurrent handlers")
	maxInFlight = flag.Int("max-in-flight", 0, "messages in flight")
	heartbeatMs = flag.Int("heartbeat-ms", 30000, "heartbeat interval")
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("a command is missing"))
	}
	if err := flag.CommandLine.Parse(os.Args[2:]); err != nil {
		fail(err)
	}
	commands := map[string]func(*bufio.Reader) error{"consume": consume, "publish": publish, "idle": idle}
	command, ok := commands[os.Args[1]]
	if !ok {
		fail(fmt.Errorf("unknown command %s", os.Args[1]))
	}
	in := bufio.NewReader(os.Stdin)
	say("ready")
	if _, err := in.ReadString('\n'); err != nil {
		fail(err)
	}
	if err := command(in); err != nil {
		fail(err)
	}
}

func consume(in *bufio.Reader) error {
	consumer, err := newConsumer()
	if err != nil {
		return err
	}
	var received atomic.Int64
	most := *messages * 95 / 100
	consumer.AddConcurrentHandlers(nsq.HandlerFunc(func(*nsq.Message) error {
		switch received.Add(1) {
		case most:
			say("most")
		case *messages:
			say("all")
		}
		return nil
	}), *handlers)
	if err := consumer.ConnectToNSQDs(strings.Split(*addresses, ",")); err != nil {
		return err
	}
	return stop(consumer, in)
}

func idle(in *bufio.Reader) error {
	consumer, err := newConsumer()
	if err != nil {
		return err
	}
	consumer.AddHandler(nsq.HandlerFunc(func(*nsq.Message) error { return nil }))
	if err := consumer.ConnectToNSQDs(strings.Split(*addresses, ",")); err != nil {
		return err
	}
	say("all")
	return stop(consumer, in)
}

func newConsumer() (*nsq.Consumer, error) {
	consumer, err := nsq.NewConsumer(*topic, *channel, config())
	if err == nil {
		consumer.SetLoggerLevel(nsq.LogLevelWarning)
	}
	return consumer, err
}

func config() *nsq.Config {
	config := nsq.NewConfig()
	if *maxInFlight > 0 {
		config.MaxInFlight = *maxInFlight
	}
	config.HeartbeatInterval = time.Duration(*heartbeatMs) * time.Millisecond
	return config
}

// stop waits for the end of the input, then stops and waits until that is done.
func stop(consumer *nsq.Consumer, in *bufio.Reader) error {
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	consumer.Stop()
	<-consumer.StopChan
	return nil
}

func publish(in *bufio.Reader) error {
	producer, err := nsq.NewProducer(*addresses, config())
	if err != nil {
		return err
	}
	producer.SetLoggerLevel(nsq.LogLevelWarning)
	answers := make(chan *nsq.ProducerTransaction, *window)
	await := func() error { return (<-answers).Error }
	// The producer keeps bodies until they are answered, and answers come in order.
	bodies := make([][][]byte, *window)
	for i := range bodies {
		bodies[i] = make([][]byte, *batch)
		for j := range bodies[i] {
			bodies[i][j] = []byte(strings.Repeat("x", *bodyBytes))
		}
	}
	unanswered := 0
	seq := uint64(0)
	for command := 0; seq < uint64(*messages); command++ {
		if unanswered == *window {
			if err := await(); err != nil {
				return err
			}
			unanswered--
		}
		some := bodies[command%*window]
		for _, body := range some {
			binary.BigEndian.PutUint64(body, seq)
			seq++
		}
		if *batch == 1 {
			err = producer.PublishAsync(*topic, some[0], answers)
		} else {
			err = producer.MultiPublishAsync(*topic, some, answers)
		}
		if err != nil {
			return err
		}
		unanswered++
	}
	for ; unanswered > 0; unanswered-- {
		if err := await(); err != nil {
			return err
		}
	}
	say("all")
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	producer.Stop()
	return nil
}

func say(word string) {
	fmt.Println(word)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "go-nsq:", err)
	os.Exit(1)
}
