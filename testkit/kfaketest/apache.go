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

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

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
