// Command interop runs one scenario of go-nsq against the nsqd processes named in the
// environment: NSQD_TCP and NSQD_HTTP hold their addresses, separated by commas, and STATE
// the folder in which the two halves of the durable scenario leave each other notes, LATE_MS
// how late a message may come for which nsqd had to wait. TRANSPORT names the layers between
// client and nsqd, joined with +; CERTIFICATES is the folder of the certificates and
// AUTH_SECRET the secret they take.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

var scenarios = map[string]func(cluster) error{
	"publish_and_consume": publishAndConsume,
	"requeue":             requeue,
	"touch":               touch,
	"timeout":             timeout,
	"deferred":            deferred,
	"discovery":           discovery,
	"transport":           overTransport,
	"refused":             refused,
	"heartbeats":          heartbeats,
	"stop":                stop,
	"bad_topic":           badTopic,
	"durable_publish":     durablePublish,
	"durable_verify":      durableVerify,
}

func main() {
	if len(os.Args) != 2 || scenarios[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: interop SCENARIO")
		os.Exit(64)
	}
	lateMs, err := strconv.Atoi(os.Getenv("LATE_MS"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "LATE_MS:", err)
		os.Exit(64)
	}
	nodes := cluster{
		late:  time.Duration(lateMs) * time.Millisecond,
		tcp:   strings.Split(os.Getenv("NSQD_TCP"), ","),
		http:  strings.Split(os.Getenv("NSQD_HTTP"), ","),
		state: os.Getenv("STATE"),
		transport: parseTransport(
			os.Getenv("TRANSPORT"), os.Getenv("CERTIFICATES"), os.Getenv("AUTH_SECRET")),
		lookupd: strings.FieldsFunc(os.Getenv("LOOKUPD_HTTP"), func(r rune) bool { return r == ',' }),
	}
	if err := scenarios[os.Args[1]](nodes); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
