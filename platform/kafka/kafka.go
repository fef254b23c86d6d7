// Package kafka publishes and consumes messages with the guarantees the rest of Altyn is built on, and is the only
// importer of segmentio/kafka-go.
//
// A Producer acknowledges a message once all in-sync replicas have it and never lets a key's later message overtake an
// earlier one. A Consumer hands over whatever has arrived from all of its partitions as one batch and commits the
// offsets only after the batch was handled: every message is handled at least once, a partition's messages in order.
// Neither waits for more messages to come, so an idle system answers at the speed of its network and a busy one works
// in large batches. Duplicates are part of the contract (a lost acknowledgement is a message sent twice); whoever
// handles a message recognises it by its ID.
package kafka

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/socket"
)

const (
	clientID = "altyn"

	// dialTimeout bounds one attempt to reach one broker, so that a dead one in the list costs little.
	dialTimeout = 2 * time.Second
	// requestTimeout bounds one request. A broker that does not answer in this time is as good as lost.
	requestTimeout = 10 * time.Second
)

// Config says how to reach the brokers and how topics are made.
type Config struct {
	Brokers           []string      `env:"KAFKA_BROKERS" default:"127.0.0.1:9092" help:"addresses of the Kafka brokers, host:port separated by commas"`
	Partitions        int           `env:"KAFKA_PARTITIONS" default:"4" help:"number of partitions of a new topic; must divide 64"`
	ReplicationFactor int           `env:"KAFKA_REPLICATION_FACTOR" default:"1" help:"number of brokers that keep each partition of a new topic"`
	MinInSync         int           `env:"KAFKA_MIN_INSYNC_REPLICAS" default:"0" help:"number of brokers that must have a message of a new topic before it counts; 0 is their majority, 2 of 3"`
	Retention         time.Duration `env:"KAFKA_RETENTION" default:"720h" help:"how long a new topic keeps its messages"`
	TLS               bool          `env:"KAFKA_TLS" default:"false" help:"whether connections to Kafka use TLS, with the system's certificate authorities"`
	SASLMechanism     string        `env:"KAFKA_SASL_MECHANISM" help:"how to authenticate to Kafka: plain, scram-sha-256, scram-sha-512, or empty for not at all"`
	SASLUser          string        `env:"KAFKA_SASL_USER" help:"user name for Kafka"`
	SASLPassword      string        `env:"KAFKA_SASL_PASSWORD" secret:"true" help:"password for Kafka"`
}

// Validate tells everything that is wrong with the configuration.
func (c Config) Validate() error {
	_, mechanismErr := c.mechanism()
	errs := []error{mechanismErr}
	if len(c.Brokers) == 0 {
		errs = append(errs, config.Invalid("KAFKA_BROKERS", "must be at least one host:port"))
	}
	for _, broker := range c.Brokers {
		host, port, err := net.SplitHostPort(broker)
		n, convErr := strconv.Atoi(port)
		if err != nil || convErr != nil || host == "" || n < 1 || n > 65535 {
			errs = append(errs, config.Invalid("KAFKA_BROKERS", "must be host:port, separated by commas: %q is not", broker))
		}
	}
	if !dividesLanes(c.Partitions) {
		errs = append(errs, config.Invalid("KAFKA_PARTITIONS", "must divide %d: 1, 2, 4, 8, 16, 32 or 64", contract.Lanes))
	}
	if c.ReplicationFactor < 1 || c.ReplicationFactor > 1<<15-1 {
		errs = append(errs, config.Invalid("KAFKA_REPLICATION_FACTOR", "must be a number of brokers, from 1 to %d", 1<<15-1))
	}
	if least := min(2, c.ReplicationFactor); c.MinInSync != 0 && (c.MinInSync < least || c.MinInSync > c.ReplicationFactor) {
		errs = append(errs, config.Invalid("KAFKA_MIN_INSYNC_REPLICAS", "must be 0 or from %d to %d, which is KAFKA_REPLICATION_FACTOR; "+
			"a message that only one of several brokers has is lost with it", least, c.ReplicationFactor))
	}
	if c.Retention < time.Second {
		errs = append(errs, config.Invalid("KAFKA_RETENTION", "must be a duration of at least 1s, such as 720h"))
	}
	return errors.Join(errs...)
}

// minInSync is how many brokers must have a message of a new topic before it is acknowledged.
func (c Config) minInSync() int { return cmp.Or(c.MinInSync, c.ReplicationFactor/2+1) }

func (c Config) mechanism() (sasl.Mechanism, error) {
	switch strings.ToLower(c.SASLMechanism) {
	case "":
		return nil, nil
	case "plain":
		return plain.Mechanism{Username: c.SASLUser, Password: c.SASLPassword}, nil
	case "scram-sha-256":
		return scram.Mechanism(scram.SHA256, c.SASLUser, c.SASLPassword)
	case "scram-sha-512":
		return scram.Mechanism(scram.SHA512, c.SASLUser, c.SASLPassword)
	default:
		return nil, config.Invalid("KAFKA_SASL_MECHANISM", "must be plain, scram-sha-256, scram-sha-512 or empty")
	}
}

func (c Config) tls() *tls.Config {
	if !c.TLS {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12}
}

// cluster is a pool of connections to all brokers. It knows which broker leads which partition; that knowledge grows
// stale when brokers come and go, and the library would refresh it only every few seconds, hence forget.
type cluster struct {
	client    *kafkago.Client
	transport *kafkago.Transport

	mu        sync.Mutex
	forgotten time.Time
}

func (c Config) connect() (*cluster, error) {
	mechanism, err := c.mechanism()
	if err != nil {
		return nil, err
	}
	transport := &kafkago.Transport{
		Dial:     (&socket.Dialer{Timeout: dialTimeout}).DialContext,
		ClientID: clientID,
		TLS:      c.tls(),
		SASL:     mechanism,
	}
	client := &kafkago.Client{Addr: kafkago.TCP(c.Brokers...), Timeout: requestTimeout, Transport: transport}
	return &cluster{client: client, transport: transport}, nil
}

// forget drops the connections and what is known of the brokers, so that the next request asks anew. Requests under
// way are not disturbed. It has no effect right after another call, as all partitions notice a lost broker at once.
func (c *cluster) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.forgotten) >= 20*time.Millisecond {
		c.forgotten = now
		c.transport.CloseIdleConnections()
	}
}

func (c *cluster) close() { c.transport.CloseIdleConnections() }

// roundTrip sends a request that kafka-go's client cannot make: one for several partitions. All must have the same leader.
func (c *cluster) roundTrip(ctx context.Context, request kafkago.Request) (kafkago.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return c.transport.RoundTrip(ctx, c.client.Addr, request)
}

// topic is what is known of a topic: for each partition the ID of the broker that leads it, negative where none does.
type topic struct {
	leaders []int32
	err     error // of a topic that does not exist, for example
}

// topics looks topics up. It costs no round trip while the brokers are known.
func (c *cluster) topics(ctx context.Context, names ...string) (map[string]topic, error) {
	response, err := c.roundTrip(ctx, &metadata.Request{TopicNames: names})
	if err != nil {
		return nil, err
	}
	topics := make(map[string]topic, len(names))
	for _, t := range response.(*metadata.Response).Topics {
		var found topic
		switch {
		case t.ErrorCode != 0:
			found.err = kafkago.Error(t.ErrorCode)
		case len(t.Partitions) == 0:
			found.err = kafkago.LeaderNotAvailable
		}
		for _, p := range t.Partitions { // sorted
			found.leaders = append(found.leaders, p.LeaderID)
		}
		topics[t.Name] = found
	}
	return topics, nil
}

// partitions returns how many partitions each topic has, an error when one does not exist.
func (c *cluster) partitions(ctx context.Context, topics ...string) (map[string]int, error) {
	known, err := c.topics(ctx, topics...)
	if err != nil {
		return nil, err
	}
	counts := make(map[string]int, len(topics))
	for name, t := range known {
		if t.err != nil {
			return nil, fmt.Errorf("topic %q: %w", name, t.err)
		}
		counts[name] = len(t.leaders)
	}
	return counts, nil
}

// backoff waits before the next attempt: 20 ms after the first failure, twice as long after each further one, up to
// limit. It returns false when ctx ended first.
func backoff(ctx context.Context, failures int, limit time.Duration) bool {
	timer := time.NewTimer(min(limit, 20*time.Millisecond<<min(failures, 10)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// Ping returns nil when one of the brokers is up and lets us in.
func Ping(ctx context.Context, cfg Config) error {
	cluster, err := cfg.connect()
	if err != nil {
		return fmt.Errorf("kafka: ping: %w", err)
	}
	defer cluster.close()
	if _, err := cluster.client.ApiVersions(ctx, &kafkago.ApiVersionsRequest{}); err != nil {
		return fmt.Errorf("kafka: ping: %w", err)
	}
	return nil
}
