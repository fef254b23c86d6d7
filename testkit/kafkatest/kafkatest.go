// Package kafkatest gives a service's tests a Kafka broker of their own, kept in memory, on a random port. The
// brokers are in one process, which the first test starts and which ends with the test process. Package kfaketest has
// one in the test's own process.
package kafkatest

import (
	"io"
	"net/rpc"
	"sync"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/internal/brokers"
	"github.com/altyn-pay/altyn/testkit/internal/program"
)

// Config is a configuration for brokers at these addresses, with the defaults of kafka.Config for the rest.
func Config(addresses ...string) kafka.Config {
	return kafka.Config{Brokers: addresses, Partitions: 4, ReplicationFactor: 1, Retention: 30 * 24 * time.Hour}
}

// Broker starts a broker for the test and returns how to reach it. It has no topics; see kafka.EnsureTopics.
func Broker(t testing.TB) kafka.Config {
	t.Helper()
	cfg, _ := Controlled(t)
	return cfg
}

// Controlled is Broker with its controls.
func Controlled(t testing.TB) (kafka.Config, *Controls) {
	t.Helper()
	client, err := connect()
	if err != nil {
		t.Fatalf("start the brokers' process: %v", err)
	}
	c := &Controls{t: t, client: client}
	var started brokers.Broker
	c.call(brokers.Start, true, &started)
	c.broker = started.ID
	t.Cleanup(func() { c.call(brokers.Stop, c.broker, new(bool)) })
	return Config(started.Address), c
}

// connect starts the process.
var connect = sync.OnceValues(func() (*rpc.Client, error) {
	p, err := program.Start("brokers")
	if err != nil {
		return nil, err
	}
	return rpc.NewClient(struct {
		io.Reader
		io.WriteCloser
	}{p.Stdout, p.Stdin}), nil
})

// Controls injects faults into a broker and watches what is asked of it.
type Controls struct {
	t      testing.TB
	client *rpc.Client
	broker int
}

func (c *Controls) call(method string, args, reply any) {
	c.t.Helper()
	if err := c.client.Call(method, args, reply); err != nil {
		c.t.Fatalf("%s(%+v): %v", method, args, err)
	}
}

// Code is an error of Kafka's protocol.
type Code int16

// The codes that tests use.
const (
	NotEnoughReplicas Code = 19 // passes
	InvalidRecord     Code = 87 // for good
)

// Refuse makes the broker refuse the next count requests to produce to a topic, all of them for -1. The test waits with
// refused until n of them were.
func (c *Controls) Refuse(topic string, code Code, count int) (refused func(n int, timeout time.Duration)) {
	c.t.Helper()
	var id int
	c.call(brokers.Refuse, brokers.Refusal{Broker: c.broker, Topic: topic, Code: int16(code), Count: count}, &id)
	return func(n int, timeout time.Duration) {
		c.t.Helper()
		c.call(brokers.AwaitRefused, brokers.Refused{Refusal: id, Count: n, Timeout: timeout}, new(bool))
	}
}

// AwaitFetched waits until consumers have fetched so many messages of all topics together, and
// ask for what comes after them.
func (c *Controls) AwaitFetched(messages int64, timeout time.Duration) {
	c.t.Helper()
	c.call(brokers.AwaitFetched, brokers.Fetched{Broker: c.broker, Messages: messages, Timeout: timeout}, new(bool))
}
