package kafka_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
)

func TestEnsureTopics(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		cfg.Partitions, cfg.Retention = 8, 48*time.Hour
		name := strings.ReplaceAll(t.Name(), "/", ".")
		topics := []string{name, name + ".dlq"}
		var callers sync.WaitGroup
		for range 8 { // every process of a deployment makes the topics at its start
			callers.Go(func() {
				if err := kafka.EnsureTopics(t.Context(), cfg, topics...); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()

		client := &kafkago.Client{Addr: kafkago.TCP(cfg.Brokers...), Transport: &kafkago.Transport{}}
		defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
		for _, topic := range topics {
			metadata, err := client.Metadata(t.Context(), &kafkago.MetadataRequest{Topics: []string{topic}})
			if err != nil || len(metadata.Topics[0].Partitions) != 8 {
				t.Errorf("topic %s: %+v, %v", topic, metadata, err)
			}
			configs, err := client.DescribeConfigs(t.Context(), &kafkago.DescribeConfigsRequest{
				Resources: []kafkago.DescribeConfigRequestResource{{
					ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{"retention.ms"},
				}},
			})
			if err != nil || configs.Resources[0].ConfigEntries[0].ConfigValue != "172800000" {
				t.Errorf("topic %s: %+v, %v", topic, configs, err)
			}
		}

		cfg.Partitions = 4 // what exists is left alone
		kfaketest.Ensure(t, cfg, topics...)
	})
}

func TestEnsureTopicsRefusesForeignPartitions(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	if err := cluster.CreateTopic("orders", 3, nil); err != nil {
		t.Fatal(err)
	}
	err := kafka.EnsureTopics(t.Context(), cfg, "payments", "orders")
	if err == nil || !strings.Contains(err.Error(), `"orders" has 3 partitions, which does not divide 64`) {
		t.Errorf("%v", err)
	}
}

func TestEnsureTopicsWaitsForTheBroker(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // a port that answers nothing yet
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	cfg := kafkatest.Config(listener.Addr().String())
	listener.Close()
	ended := make(chan error)
	go func() { ended <- kafka.EnsureTopics(context.Background(), cfg, "orders") }()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	// too few brokers are up
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.InvalidReplicationFactor, Count: 2})
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestEnsureTopicsGivesUp(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	if err := kafka.EnsureTopics(t.Context(), cfg, "orders"); err == nil || !strings.Contains(err.Error(), "orders") {
		t.Errorf("without the right: %v", err)
	}
	cluster.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := kafka.EnsureTopics(ctx, cfg, "orders"); err == nil {
		t.Error("without a broker: no error")
	}
}

func TestPing(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		if err := kafka.Ping(t.Context(), cfg); err != nil {
			t.Error(err)
		}
	})
	cfg, cluster := kfaketest.Cluster(t)
	cluster.Close()
	if err := kafka.Ping(t.Context(), cfg); err == nil {
		t.Error("a broker that is gone answers")
	}
	if err := kafka.Ping(t.Context(), kafkatest.Config(cfg.Brokers[0], kfaketest.Broker(t).Brokers[0])); err != nil {
		t.Errorf("one of two brokers: %v", err)
	}
}

func TestValidate(t *testing.T) {
	if err := kafkatest.Config("127.0.0.1:9092", "kafka.example:9093").Validate(); err != nil {
		t.Error(err)
	}
	for _, fine := range []func(*kafka.Config){
		func(c *kafka.Config) { c.SASLMechanism = "plain" }, // on loopback
		func(c *kafka.Config) {
			c.SASLMechanism, c.Brokers = "plain", []string{"kafka.example:9093"} // by TLS
		},
	} {
		cfg := kafkatest.Config("127.0.0.1:9092", "localhost:9093", "[::1]:9094")
		fine(&cfg)
		if err := cfg.Validate(); err != nil {
			t.Error(err)
		}
	}
	for want, spoil := range map[string]func(*kafka.Config){
		"KAFKA_BROKERS must be at least one": func(c *kafka.Config) {
			c.Brokers = nil
		},
		`KAFKA_BROKERS must be host:port, separated by commas: "localhost" is not`: func(c *kafka.Config) {
			c.Brokers = []string{"localhost"}
		},
		`KAFKA_BROKERS must be host:port, separated by commas: "localhost:0" is not`: func(c *kafka.Config) {
			c.Brokers = []string{"localhost:0"}
		},
		"KAFKA_PARTITIONS must divide 64":                    func(c *kafka.Config) { c.Partitions = 6 },
		"KAFKA_PARTITIONS must divide 64: 1, 2":              func(c *kafka.Config) { c.Partitions = 0 },
		"KAFKA_REPLICATION_FACTOR must be":                   func(c *kafka.Config) { c.ReplicationFactor = 0 },
		"KAFKA_MIN_INSYNC_REPLICAS must be 0 or from 1 to 1": func(c *kafka.Config) { c.MinInSync = 2 },
		"KAFKA_MIN_INSYNC_REPLICAS must be 0 or from 2 to 3": func(c *kafka.Config) {
			c.ReplicationFactor, c.MinInSync = 3, 1
		},
		"KAFKA_MIN_INSYNC_REPLICAS must be 0 or from 2 to 5": func(c *kafka.Config) {
			c.ReplicationFactor, c.MinInSync = 5, 6
		},
		"KAFKA_RETENTION must be": func(c *kafka.Config) { c.Retention = -time.Second },
		"KAFKA_SASL_MECHANISM must not be plain": func(c *kafka.Config) {
			c.SASLMechanism, c.TLS, c.Brokers = "PLAIN", "false", append(c.Brokers, "kafka.example:9093")
		},
		"KAFKA_INSTANCE_ID must be of":     func(c *kafka.Config) { c.InstanceID = "a b" },
		"KAFKA_TLS must be true or false":  func(c *kafka.Config) { c.TLS = "yes" },
		"KAFKA_TLS_CERT_FILE must be set":  func(c *kafka.Config) { c.TLSKey = "tls.key" },
		"KAFKA_TLS_CA_FILE must be a file": func(c *kafka.Config) { c.TLSCA = "/nowhere" },
		"KAFKA_SASL_MECHANISM must be":     func(c *kafka.Config) { c.SASLMechanism = "oauthbearer" },
	} {
		cfg := kafkatest.Config("127.0.0.1:9092")
		spoil(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
