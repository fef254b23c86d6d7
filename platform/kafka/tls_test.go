package kafka_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/tlsfiles"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/tlstest"
)

// brokers start brokers that have a certificate with these names, and ask for one. Config shows good ones.
type brokers func(t *testing.T, authority *tlstest.Authority, names ...string) kafka.Config

func embedded(t *testing.T, authority *tlstest.Authority, names ...string) kafka.Config {
	t.Helper()
	pair := authority.Issue(t, names)
	files := tlsfiles.Files{Cert: pair.Cert, Key: pair.Key, CA: authority.File}
	source, err := tlsfiles.Open(files, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	cfg, _ := kfaketest.Cluster(t, kfake.NumBrokers(3), kfake.TLS(source.Server(true)))
	cfg.TLS, cfg.TLSCA, cfg.TLSCert, cfg.TLSKey = "true", files.CA, files.Cert, files.Key
	return cfg
}

func apache(t *testing.T, authority *tlstest.Authority, names ...string) kafka.Config {
	t.Helper()
	kfaketest.NeedApache(t)
	pair := authority.Issue(t, names)
	broker, err := localkafka.Start(t.Context(), localkafka.Options{Kind: localkafka.Apache,
		TLS: tlsfiles.Files{Cert: pair.Cert, Key: pair.Key, CA: authority.File}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := broker.Kill(); err != nil {
			t.Error(err)
		}
	})
	return broker.Config()
}

// Whatever connects to a broker, also to one that another broker has named, shows its certificate and wants to see one.
func TestTLS(t *testing.T) {
	for name, start := range map[string]brokers{"embedded": embedded, "apache": apache} {
		t.Run(name, func(t *testing.T) { testTLS(t, start) })
	}
}

func testTLS(t *testing.T, start brokers) {
	ours, theirs := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	good := start(t, ours, "127.0.0.1")
	topic, journal := kfaketest.Topic(t, good), kfaketest.NewJournal()
	// To each partition, so to each broker.
	kfaketest.Produce(t, kfaketest.Producer(t, good), kfaketest.Messages(topic, 0, 64, 64)...)
	consume(t, good, topic, []string{topic}, journal, nil)
	journal.Await(t, 64)

	for name, test := range map[string]struct {
		change func(*kafka.Config)
		want   string // in the error; what a broker refuses may just break off
	}{
		"without TLS":    {func(c *kafka.Config) { c.TLS = "" }, ""}, // which is none on loopback
		"another CA":     {func(c *kafka.Config) { c.TLSCA = theirs.File }, "unknown authority"},
		"no certificate": {func(c *kafka.Config) { c.TLSCert, c.TLSKey = "", "" }, ""},
		"expired certificate": {func(c *kafka.Config) {
			old := ours.Issue(t, nil, tlstest.Expired)
			c.TLSCert, c.TLSKey = old.Cert, old.Key
		}, ""},
		"another name": {func(c *kafka.Config) { // of the same machine
			c.Brokers = []string{strings.Replace(c.Brokers[0], "127.0.0.1", "localhost", 1)}
		}, "localhost"},
	} {
		cfg := good
		test.change(&cfg)
		if err := kafka.Ping(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v; want %q", name, err, test.want)
		}
	}
}
