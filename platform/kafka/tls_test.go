package kafka_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/tlsfiles"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
	"github.com/altyn-pay/altyn/testkit/tlstest"
)

// cluster starts brokers that have a certificate with these names, and ask for one.
func cluster(t *testing.T, authority *tlstest.Authority, names ...string) kafka.Config {
	t.Helper()
	pair := authority.Issue(t, names)
	source, err := tlsfiles.Open(tlsfiles.Files{Cert: pair.Cert, Key: pair.Key, CA: authority.File},
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	cfg, _ := kfaketest.Cluster(t, kfake.NumBrokers(3), kfake.TLS(source.Server(true)))
	return cfg
}

// Whatever connects to a broker, also to one that another broker has named, shows its certificate and wants to see one.
func TestTLS(t *testing.T) {
	ours, theirs := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	mine := ours.Issue(t, nil)
	good := cluster(t, ours, "127.0.0.1")
	good.TLS, good.TLSCA, good.TLSCert, good.TLSKey = "true", ours.File, mine.Cert, mine.Key

	topic, journal := kfaketest.Topic(t, good), kfaketest.NewJournal()
	// To each partition, so to each broker.
	kfaketest.Produce(t, kfaketest.Producer(t, good), kfaketest.Messages(topic, 0, 64, 64)...)
	consume(t, good, topic, []string{topic}, journal, nil)
	journal.Await(t, 64)

	for want, change := range map[string]func(*kafka.Config){
		"EOF":                  func(c *kafka.Config) { c.TLS = "" }, // which is none on loopback
		"unknown authority":    func(c *kafka.Config) { c.TLSCA = theirs.File },
		"certificate required": func(c *kafka.Config) { c.TLSCert, c.TLSKey = "", "" },
		"expired": func(c *kafka.Config) {
			old := ours.Issue(t, nil, tlstest.Expired)
			c.TLSCert, c.TLSKey = old.Cert, old.Key
		},
		"any IP SANs": func(c *kafka.Config) { c.Brokers = cluster(t, ours, "kafka.example").Brokers },
	} {
		cfg := good
		change(&cfg)
		if err := kafka.Ping(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %q", err, want)
		}
	}
}
