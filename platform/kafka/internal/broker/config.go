package broker

import (
	"cmp"
	"errors"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/tlsfiles"
)

// Config says how to reach the brokers and how topics are made.
type Config struct {
	Brokers           []string      `env:"KAFKA_BROKERS" default:"127.0.0.1:9092" help:"addresses of the Kafka brokers, host:port separated by commas"`
	Partitions        int           `env:"KAFKA_PARTITIONS" default:"4" help:"number of partitions of a new topic; must divide 64"`
	ReplicationFactor int           `env:"KAFKA_REPLICATION_FACTOR" default:"1" help:"number of brokers that keep each partition of a new topic"`
	MinInSync         int           `env:"KAFKA_MIN_INSYNC_REPLICAS" default:"0" help:"number of brokers that must have a message of a new topic before it counts; 0 is their majority, 2 of 3"`
	Retention         time.Duration `env:"KAFKA_RETENTION" default:"720h" help:"how long a new topic keeps its messages"`
	InstanceID        string        `env:"KAFKA_INSTANCE_ID" help:"name that the process keeps when it is started again, and that no other one of the service has: then its partitions wait for it, and nobody else notices (default: none)"`
	TLS               string        `env:"KAFKA_TLS" help:"whether connections to Kafka use TLS: true or false (default: only those to brokers that are not on loopback)"`
	TLSCA             string        `env:"KAFKA_TLS_CA_FILE" help:"PEM file of the authorities of the brokers' certificates (default: the system's)"`
	TLSCert           string        `env:"KAFKA_TLS_CERT_FILE" help:"PEM file of the certificate by which brokers know this process"`
	TLSKey            string        `env:"KAFKA_TLS_KEY_FILE" help:"PEM file of its key"`
	SASLMechanism     string        `env:"KAFKA_SASL_MECHANISM" help:"how to authenticate to Kafka: plain, scram-sha-256, scram-sha-512, or empty for not at all"`
	SASLUser          string        `env:"KAFKA_SASL_USER" help:"user name for Kafka"`
	SASLPassword      string        `env:"KAFKA_SASL_PASSWORD" secret:"true" help:"password for Kafka"`
}

// instanceID is what Kafka takes as the name of a member.
var instanceID = regexp.MustCompile(`^[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,248}$`)

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
	switch c.TLS {
	case "", always:
	case never:
		if c.plain() && !c.Encrypted() {
			errs = append(errs, config.Invalid("KAFKA_SASL_MECHANISM",
				"must not be plain without KAFKA_TLS, because the password would go over the network as it is"))
		}
	default:
		errs = append(errs, config.Invalid("KAFKA_TLS", "must be true or false"))
	}
	errs = append(errs, c.files().Check(
		tlsfiles.Files{Cert: "KAFKA_TLS_CERT_FILE", Key: "KAFKA_TLS_KEY_FILE", CA: "KAFKA_TLS_CA_FILE"}))
	if c.InstanceID != "" && !instanceID.MatchString(c.InstanceID) {
		errs = append(errs, config.Invalid("KAFKA_INSTANCE_ID", "must be of letters, digits, ., _ and -, 249 at most"))
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

// The values of KAFKA_TLS.
const (
	always = "true"
	never  = "false"
)

// Guarded reports whether the brokers are on this machine, or show who they are and ask who connects, on a connection
// that nobody else reads.
func (c Config) Guarded() bool {
	asked := c.SASLMechanism != "" || c.TLSCert != ""
	return !slices.ContainsFunc(c.Brokers, func(broker string) bool {
		return !local(broker) && (!asked || !c.byTLS(broker))
	})
}

// Encrypted reports whether nobody between this machine and the brokers can read or change what goes there.
func (c Config) Encrypted() bool {
	return !slices.ContainsFunc(c.Brokers, func(broker string) bool { return !local(broker) && !c.byTLS(broker) })
}

// byTLS reports whether a connection to an address uses TLS.
func (c Config) byTLS(addr string) bool { return c.TLS == always || c.TLS != never && !local(addr) }

// local reports whether an address is on this machine.
func local(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

func (c Config) plain() bool { return strings.EqualFold(c.SASLMechanism, "plain") }

func (c Config) files() tlsfiles.Files {
	return tlsfiles.Files{Cert: c.TLSCert, Key: c.TLSKey, CA: c.TLSCA}
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
