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
	var address string
	c.call("Start", true, &address)
	c.broker = address
	t.Cleanup(func() { c.call("Stop", c.broker, new(bool)) })
	return Config(address), c
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
	broker string // its address
}

// call calls a method of the program testkit/cmd/brokers.
func (c *Controls) call(method string, args, reply any) {
	c.t.Helper()
	if err := c.client.Call("Brokers."+method, args, reply); err != nil {
		c.t.Fatalf("%s(%+v): %v", method, args, err)
	}
}

// The errors of Kafka's protocol that tests use.
const (
	NotEnoughReplicas int16 = 19 // passes
	InvalidRecord     int16 = 87 // for good
)

// Refusal makes a broker answer the next requests to produce to a topic with an error; all of them where Count is -1.
type Refusal struct {
	Broker, Topic string
	Code          int16
	Count         int
}

// Refuse makes the broker refuse the next count requests to produce to a topic, all of them for -1. The test waits with
// refused until all were.
func (c *Controls) Refuse(topic string, code int16, count int) (refused func()) {
	c.t.Helper()
	refusal := Refusal{Broker: c.broker, Topic: topic, Code: code, Count: count}
	c.call("Refuse", refusal, new(bool))
	return func() {
		c.t.Helper()
		c.call("AwaitRefused", refusal, new(bool))
	}
}
