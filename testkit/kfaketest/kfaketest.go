// Package kfaketest gives a test a Kafka broker in its own process, kept in memory, whose every answer it can change.
// The services' tests use kafkatest in its place, which keeps the broker out of their modules.
package kfaketest

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
)

// Broker starts a broker for the test and returns how to reach it. It has no topics; see kafka.EnsureTopics.
func Broker(t testing.TB) kafka.Config {
	t.Helper()
	cfg, _ := Cluster(t)
	return cfg
}

// Cluster is Broker with the controls by which a test injects faults: answers of its own (ControlKey), leaders that
// move, more options.
func Cluster(t testing.TB, options ...kfake.Opt) (kafka.Config, *kfake.Cluster) {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, options...)...)
	if err != nil {
		t.Fatalf("start a broker: %v", err)
	}
	t.Cleanup(cluster.Close)
	return kafkatest.Config(cluster.ListenAddrs()...), cluster
}
