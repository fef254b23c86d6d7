// Package kafkatest gives tests a Kafka broker of their own: one in this process, on a random port, kept in memory.
package kafkatest

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/altyn-pay/altyn/platform/kafka"
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
	return Config(cluster.ListenAddrs()...), cluster
}

// Config is a configuration for brokers at these addresses, with the defaults of kafka.Config for the rest.
func Config(brokers ...string) kafka.Config {
	return kafka.Config{Brokers: brokers, Partitions: 4, ReplicationFactor: 1, Retention: 30 * 24 * time.Hour}
}
