package kfaketest

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/altyn-pay/altyn/platform/kafka"
)

// Transactional is a producer of another library, whose messages come in transactions. It serves one goroutine.
type Transactional struct{ client *kgo.Client }

// NewTransactional makes a producer. No two may have the same ID at a time.
func NewTransactional(t testing.TB, cfg kafka.Config, id string) *Transactional {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.TransactionalID(id))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &Transactional{client}
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
