package kfaketest

import (
	"context"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// DeleteRecords makes a broker lose everything that a topic has at this moment. It returns how many messages that were,
// by the partitions' offsets.
func DeleteRecords(t testing.TB, cfg kafka.Config, topic string) (lost int64) {
	t.Helper()
	admin := admin(t, cfg)
	var starts, ends kadm.ListedOffsets
	wait.NoError(t, func() error { // a broker that creates a topic, or learns of it, tells of no partitions
		var startErr, endErr error
		starts, startErr = admin.ListStartOffsets(t.Context(), topic)
		ends, endErr = admin.ListEndOffsets(t.Context(), topic)
		if err := errors.Join(startErr, endErr, starts.Error(), ends.Error()); err != nil {
			return err
		}
		if len(ends[topic]) == 0 || len(starts[topic]) != len(ends[topic]) {
			return errors.New("topic " + topic + " has no partitions")
		}
		return nil
	})
	for partition, end := range ends[topic] {
		lost += end.Offset - starts[topic][partition].Offset
	}
	deleted, err := admin.DeleteRecords(t.Context(), ends.Offsets())
	if err := errors.Join(err, deleted.Error()); err != nil {
		t.Fatalf("delete the records of %s: %v", topic, err)
	}
	return lost
}

// DeleteTopic makes a broker lose a topic.
func DeleteTopic(t testing.TB, cfg kafka.Config, topic string) {
	t.Helper()
	if deleted, err := admin(t, cfg).DeleteTopic(t.Context(), topic); err != nil || deleted.Err != nil {
		t.Fatalf("delete topic %s: %v, %v", topic, err, deleted.Err)
	}
}

func admin(t testing.TB, cfg kafka.Config) *kadm.Client {
	t.Helper()
	return kadm.NewClient(client(t, cfg))
}

func client(t testing.TB, cfg kafka.Config, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	options = append(options, kgo.SeedBrokers(cfg.Brokers...))
	if cfg.SASLUser != "" {
		options = append(options, kgo.SASL(scram.Auth{User: cfg.SASLUser, Pass: cfg.SASLPassword}.AsSha512Mechanism()))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// Transactional is a producer of another library, whose messages come in transactions. It serves one goroutine.
type Transactional struct{ client *kgo.Client }

// NewTransactional makes a producer. No two may have the same ID at a time.
func NewTransactional(t testing.TB, cfg kafka.Config, id string) *Transactional {
	t.Helper()
	return &Transactional{client(t, cfg, kgo.TransactionalID(id))}
}

// Produce publishes messages in a transaction of their own, each acknowledged before the next
// one, and commits or aborts it.
func (p *Transactional) Produce(ctx context.Context, commit bool, messages ...kafka.Message) error {
	if err := p.client.BeginTransaction(); err != nil {
		return err
	}
	for _, m := range messages {
		record := &kgo.Record{Topic: m.Topic, Key: m.Key, Value: m.Value}
		for _, h := range m.Headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		if err := p.client.ProduceSync(ctx, record).FirstErr(); err != nil {
			return err
		}
	}
	return p.client.EndTransaction(ctx, kgo.TransactionEndTry(commit))
}

// Grant gives users of a broker rights, as its administrator.
func Grant(t testing.TB, administrator kafka.Config, rights ...contract.Right) {
	t.Helper()
	admin := admin(t, administrator)
	for _, right := range rights {
		created, err := admin.CreateACLs(t.Context(), rule(t, right))
		if err != nil || len(created) == 0 {
			t.Fatalf("grant %+v: %v", right, err)
		}
		for _, one := range created {
			if one.Err != nil {
				t.Fatalf("grant %+v: %v", right, one.Err)
			}
		}
	}
}

// Revoke takes rights away.
func Revoke(t testing.TB, administrator kafka.Config, rights ...contract.Right) {
	t.Helper()
	admin := admin(t, administrator)
	for _, right := range rights {
		deleted, err := admin.DeleteACLs(t.Context(), rule(t, right))
		if err != nil {
			t.Fatalf("revoke %+v: %v", right, err)
		}
		for _, one := range deleted {
			if one.Err != nil || len(one.Deleted) != 1 {
				t.Fatalf("revoke %+v: %+v", right, one)
			}
		}
	}
}

// rule is a right as Kafka has it.
func rule(t testing.TB, right contract.Right) *kadm.ACLBuilder {
	t.Helper()
	rule := kadm.NewACLs().ResourcePatternType(kadm.ACLPatternLiteral).Allow("User:" + right.User).AllowHosts("*")
	if right.Prefix {
		rule.ResourcePatternType(kadm.ACLPatternPrefixed)
	}
	if right.Group {
		rule.Groups(right.Name)
	} else {
		rule.Topics(right.Name)
	}
	operations := make([]kadm.ACLOperation, len(right.Operations))
	for i, name := range right.Operations {
		operation, err := kmsg.ParseACLOperation(name)
		if err != nil {
			t.Fatalf("operation %s: %v", name, err)
		}
		operations[i] = operation
	}
	return rule.Operations(operations...)
}
