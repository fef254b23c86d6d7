package kafka_test

import (
	"context"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
)

// settingsOf are some of a topic's.
func settingsOf(t *testing.T, cfg kafka.Config, topic string) map[string]string {
	t.Helper()
	client := &kafkago.Client{Addr: kafkago.TCP(cfg.Brokers...), Transport: &kafkago.Transport{}}
	defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
	response, err := client.DescribeConfigs(t.Context(),
		&kafkago.DescribeConfigsRequest{Resources: []kafkago.DescribeConfigRequestResource{{
			ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic,
			ConfigNames: []string{"min.insync.replicas", "unclean.leader.election.enable"},
		}}})
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, entry := range response.Resources[0].ConfigEntries {
		settings[entry.ConfigName] = entry.ConfigValue
	}
	return settings
}

func TestNewTopicsLoseNothing(t *testing.T) {
	check := func(t *testing.T, cfg kafka.Config, want string) {
		t.Helper()
		if got := settingsOf(t, cfg, kfaketest.Topic(t, cfg)); got["min.insync.replicas"] != want ||
			got["unclean.leader.election.enable"] != "false" {
			t.Errorf("with %d replicas and %d asked for: %v", cfg.ReplicationFactor, cfg.MinInSync, got)
		}
	}
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) { check(t, cfg, "1") })
	cfg, _ := kfaketest.Cluster(t, kfake.NumBrokers(5))
	for _, test := range []struct {
		replicas, asked int
		want            string
	}{{1, 0, "1"}, {1, 1, "1"}, {2, 0, "2"}, {3, 0, "2"}, {3, 2, "2"}, {3, 3, "3"}, {5, 0, "3"}, {5, 2, "2"}} {
		cfg.ReplicationFactor, cfg.MinInSync = test.replicas, test.asked
		check(t, cfg, test.want)
	}
}

// A topic that is there already may endanger what was acknowledged. Where replicas are asked for, the start is
// refused, and says what is to be changed; where there is one broker, it is said as far as something is wrong beyond
// that.
func TestTopicsThatEndangerMessages(t *testing.T) {
	for name, test := range map[string]struct {
		replicas        int16
		settings        map[string]string
		refused, warned string // with three replicas asked for
		alone           string // what is said where one is
	}{
		"right":            {replicas: 3, settings: map[string]string{"min.insync.replicas": "2"}},
		"stricter":         {replicas: 3, settings: map[string]string{"min.insync.replicas": "3"}},
		"without replicas": {replicas: 1, refused: "a partition has 1 replicas"},
		"of two replicas": {replicas: 2, settings: map[string]string{"min.insync.replicas": "2"},
			warned: "a partition has 2 replicas, not 3"},
		"acknowledged by one": {replicas: 3, refused: "min.insync.replicas is 1", alone: "min.insync.replicas is 1"},
		"never to be written": {replicas: 3, settings: map[string]string{"min.insync.replicas": "4"},
			refused: "nothing can be written", alone: "nothing can be written"},
		"led by whoever is left": {replicas: 3,
			settings: map[string]string{"min.insync.replicas": "2", "unclean.leader.election.enable": "true"},
			refused:  "unclean.leader.election.enable is true", alone: "unclean.leader.election.enable is true"},
		"compacted": {replicas: 3,
			settings: map[string]string{"min.insync.replicas": "2", "cleanup.policy": "compact"},
			refused:  "cleanup.policy is compact", alone: "cleanup.policy is compact"},
		"compacted too": {replicas: 3,
			settings: map[string]string{"min.insync.replicas": "2", "cleanup.policy": "compact,delete"},
			refused:  "cleanup.policy is compact,delete", alone: "cleanup.policy is compact,delete"},
		"kept for an hour": {replicas: 3,
			settings: map[string]string{"min.insync.replicas": "2", "retention.ms": "3600000"},
			warned:   "retention.ms is 3600000", alone: "retention.ms is 3600000"},
		"kept for ever": {replicas: 3,
			settings: map[string]string{"min.insync.replicas": "2", "retention.ms": "-1"}},
		"kept up to a megabyte": {replicas: 3,
			settings: map[string]string{"min.insync.replicas": "2", "retention.bytes": "1000000"},
			warned:   "retention.bytes is 1000000", alone: "retention.bytes is 1000000"},
		"a single broker's, as it is": {replicas: 1, refused: "a partition has 1 replicas"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, _ := kfaketest.Cluster(t, kfake.NumBrokers(3))
			client := &kafkago.Client{Addr: kafkago.TCP(cfg.Brokers...), Transport: &kafkago.Transport{}}
			defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
			topic := kafkago.TopicConfig{Topic: "orders", NumPartitions: 4, ReplicationFactor: int(test.replicas)}
			topic.ConfigEntries = append(topic.ConfigEntries,
				kafkago.ConfigEntry{ConfigName: "retention.ms", ConfigValue: "2592000000"})
			for setting, value := range test.settings {
				topic.ConfigEntries = append(topic.ConfigEntries, kafkago.ConfigEntry{ConfigName: setting, ConfigValue: value})
			}
			if response, err := client.CreateTopics(t.Context(),
				&kafkago.CreateTopicsRequest{Topics: []kafkago.TopicConfig{topic}}); err != nil ||
				response.Errors["orders"] != nil {
				t.Fatal(err, response)
			}
			cfg.ReplicationFactor = 3
			err := kafka.EnsureTopics(t.Context(), cfg, "orders")
			if (err == nil) != (test.refused == "") ||
				err != nil && (!kafka.Permanent(err) || !strings.Contains(err.Error(), test.refused) ||
					!strings.Contains(err.Error(), `"orders"`)) {
				t.Errorf("with three replicas: %v, want %q", err, test.refused)
			}
			said, err := start(t, cfg, test.warned != "", "orders")
			if (err == nil) != (test.refused == "") || !strings.Contains(said, test.warned) ||
				(test.warned == "") != (said == "") {
				t.Errorf("the start ends with %v and says %q", err, said)
			}
			cfg.ReplicationFactor = 1
			said, err = start(t, cfg, test.alone != "", "orders")
			if err != nil || !strings.Contains(said, test.alone) || (test.alone == "") != (said == "") {
				t.Errorf("the start with one replica ends with %v and says %q, want %q", err, said, test.alone)
			}
		})
	}
}

// start keeps topics as a service does from its start on, until it says what it is to say, or for a while where that
// is nothing. What it says it says once.
func start(t *testing.T, cfg kafka.Config, says bool, topics ...string) (said string, err error) {
	t.Helper()
	patience := 300 * time.Millisecond
	if says {
		patience = deadline
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var log strings.Builder
	warned, ended := make(chan struct{}, 10), make(chan error, 1)
	go func() { ended <- kafka.KeepTopics(ctx, cfg, logger(&log, warned), topics...) }()
	select {
	case <-warned:
		cancel()
		err = <-ended
	case err = <-ended:
	}
	if strings.Count(log.String(), "level=WARN") > 1 {
		t.Errorf("said more than once: %s", &log)
	}
	return log.String(), err
}

// Whoever may not see the settings is told that they were not checked, and works.
func TestSettingsThatMayNotBeSeen(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t, kfake.NumBrokers(3))
	cfg.ReplicationFactor = 3
	kfaketest.Ensure(t, cfg, "orders")
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	said, err := start(t, cfg, true, "orders")
	if err != nil || !strings.Contains(said, "cannot be checked") {
		t.Errorf("%v, %q", err, said)
	}
}

// Topics on which anybody writes have the broker's time, also where they were made without it, and nobody else's have.
// Whoever depends on that waits for it, and is told what is missing.
func TestAnybodysMessagesGetTheBrokersTime(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		topics := []string{contract.TopicCommands, contract.TopicInventory, contract.TopicOrders}
		client := &kafkago.Client{Addr: kafkago.TCP(cfg.Brokers...), Transport: &kafkago.Transport{}}
		defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
		if response, err := client.CreateTopics(t.Context(), &kafkago.CreateTopicsRequest{Topics: []kafkago.TopicConfig{
			{Topic: contract.TopicCommands, NumPartitions: 4, ReplicationFactor: 1}}}); err != nil ||
			response.Errors[contract.TopicCommands] != nil {
			t.Fatal(err, response)
		}
		var log strings.Builder
		warned, ended := make(chan struct{}, 10), make(chan error, 1)
		go func() {
			ended <- kafka.AwaitBrokersTime(t.Context(), cfg, logger(&log, warned), contract.TopicCommands)
		}()
		<-warned
		producer := kfaketest.Producer(t, cfg)
		yesterday := time.Now().Add(-24 * time.Hour).Truncate(time.Millisecond)
		kfaketest.ProduceAll(t, producer,
			kafka.Message{Topic: contract.TopicCommands, Value: []byte("before"), Time: yesterday})
		kfaketest.Ensure(t, cfg, topics...)
		if err := <-ended; err != nil || !strings.Contains(log.String(), "CreateTime") {
			t.Errorf("it ends with %v and said %s", err, &log)
		}
		for _, topic := range topics {
			kfaketest.ProduceAll(t, producer, kafka.Message{Topic: topic, Value: []byte(topic), Time: yesterday})
		}
		read := map[string]kafka.Message{}
		for _, topic := range topics {
			if err := kfaketest.Backlog(t, cfg, t.Name(), topic).Look(t.Context(), func(m kafka.Message, _ bool) {
				read[string(m.Value)] = m
			}); err != nil {
				t.Fatal(err)
			}
		}
		heeds := strings.HasSuffix(t.Name(), "apache") // the embedded broker keeps the setting and does not heed it
		for value, theirs := range map[string]bool{"before": false, contract.TopicOrders: false,
			contract.TopicCommands: heeds, contract.TopicInventory: heeds} {
			if m := read[value]; m.Appended != theirs || m.Time.Equal(yesterday) == theirs ||
				theirs && time.Since(m.Time).Abs() > time.Minute {
				t.Errorf("%s has the time %s, of the broker %v", value, m.Time, m.Appended)
			}
		}
	})
}

// A service that may not change the setting is told so, and what depends on it goes on waiting.
func TestTheBrokersTimeCannotBeSet(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	cfg.Retention = 7 * 24 * time.Hour
	if err := cluster.CreateTopic(contract.TopicInventory, 4, nil); err != nil {
		t.Fatal(err)
	}
	cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.IncrementalAlterConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	said, err := start(t, cfg, true, contract.TopicInventory)
	if err != nil || !strings.Contains(said, "message.timestamp.type must be LogAppendTime, and cannot be set") {
		t.Errorf("%v, %q", err, said)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var log strings.Builder
	if err := kafka.AwaitBrokersTime(ctx, cfg, logger(&log, make(chan struct{}, 10)),
		contract.TopicInventory); err != nil || ctx.Err() == nil {
		t.Errorf("it did not wait: %v", err)
	}
}
