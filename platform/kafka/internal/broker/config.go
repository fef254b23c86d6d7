package broker

import (
	"cmp"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
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

// DividesLanes tells whether a topic can have so many partitions: each must always carry the same lanes.
func DividesLanes(partitions int) bool { return partitions > 0 && contract.Lanes%partitions == 0 }

// Validate returns everything that is wrong with the configuration, a *config.Wrong each.
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
	if !c.TLS && strings.EqualFold(c.SASLMechanism, "plain") && !c.local() {
		errs = append(errs, config.Invalid("KAFKA_SASL_MECHANISM",
			"must not be plain without KAFKA_TLS, because the password would go over the network as it is"))
	}
	if !DividesLanes(c.Partitions) {
		errs = append(errs, config.Invalid("KAFKA_PARTITIONS", "must divide %d: 1, 2, 4, 8, 16, 32 or 64", contract.Lanes))
	}
	if c.ReplicationFactor < 1 || c.ReplicationFactor > 1<<15-1 {
		errs = append(errs, config.Invalid("KAFKA_REPLICATION_FACTOR", "must be a number of brokers, from 1 to %d", 1<<15-1))
	}
	least := min(2, c.ReplicationFactor)
	if c.MinInSync != 0 && (c.MinInSync < least || c.MinInSync > c.ReplicationFactor) {
		errs = append(errs, config.Invalid("KAFKA_MIN_INSYNC_REPLICAS",
			"must be 0 or from %d to %d, which is KAFKA_REPLICATION_FACTOR; "+
				"a message that only one of several brokers has is lost with it", least, c.ReplicationFactor))
	}
	if c.Retention < time.Second {
		errs = append(errs, config.Invalid("KAFKA_RETENTION", "must be a duration of at least 1s, such as 720h"))
	}
	return errors.Join(errs...)
}

// Guarded reports whether the brokers are on this machine, or show who they are and ask who connects, on a connection
// that nobody else reads.
func (c Config) Guarded() bool { return c.local() || c.TLS && c.SASLMechanism != "" }

// local reports whether all brokers are on this machine.
func (c Config) local() bool {
	return !slices.ContainsFunc(c.Brokers, func(broker string) bool {
		host, _, _ := net.SplitHostPort(broker)
		return host != "localhost" && !net.ParseIP(host).IsLoopback()
	})
}

// LeastInSync is how many brokers must have a message of a new topic before it counts as acknowledged.
func (c Config) LeastInSync() int { return cmp.Or(c.MinInSync, c.ReplicationFactor/2+1) }

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
