// Package kfaketest gives a test a Kafka broker in its own process, kept in memory, whose every answer it can change.
// The services' tests use kafkatest in its place, which keeps the broker out of their modules.
package kfaketest

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
	"github.com/altyn-pay/altyn/testkit/localkafka"
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

// WithApache runs the tests of a package that call Apache, and stops that broker at their end.
type WithApache struct{ *testing.M }

// Run runs the tests.
func (m WithApache) Run() int {
	code := m.M.Run()
	if started != nil {
		if err := started.Stop(); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	return code
}

var (
	started *localkafka.Broker // by shared
	shared  = sync.OnceValues(func() (_ *localkafka.Broker, err error) {
		started, err = localkafka.Start(context.Background(), localkafka.Options{Kind: localkafka.Apache})
		return started, err
	})
)

// Apache returns an Apache Kafka that all tests share; each names its topics and groups after itself.
func Apache(t testing.TB) kafka.Config {
	t.Helper()
	NeedApache(t)
	broker, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return broker.Config()
}

// NeedApache skips a test where Apache Kafka cannot run.
func NeedApache(t testing.TB) {
	t.Helper()
	for _, program := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("APACHE KAFKA IS NOT TESTED HERE: %v", err)
		}
	}
}

// Brokers runs a test against the embedded broker and against Apache Kafka.
func Brokers(t *testing.T, test func(t *testing.T, cfg kafka.Config)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) { test(t, Broker(t)) })
	t.Run("apache", func(t *testing.T) { test(t, Apache(t)) })
}

// Topic creates a topic of the test's own; its name serves as that of a group too.
func Topic(t testing.TB, cfg kafka.Config) string {
	t.Helper()
	topic := strings.NewReplacer("/", ".", "#", ".").Replace(t.Name()) + strconv.FormatInt(time.Now().UnixNano(), 36)
	Ensure(t, cfg, topic)
	return topic
}

// Ensure creates topics.
func Ensure(t testing.TB, cfg kafka.Config, topics ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := kafka.EnsureTopics(ctx, cfg, topics...); err != nil {
		t.Fatal(err)
	}
}
