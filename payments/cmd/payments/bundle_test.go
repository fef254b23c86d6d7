package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// standard is the service with its default settings.
var standard = program(Config{HealAfter: time.Minute})

// bundle is the service as a whole, with a broker.
type bundle struct {
	*paymentstest.Bundle
	broker   kafka.Config
	controls *kafkatest.Controls // of the broker
	producer *kafka.Producer
}

// setup starts one instance of each role.
func setup(t *testing.T, roles ...service.Role) *bundle {
	t.Helper()
	return setupProgram(t, standard, roles...)
}

func setupProgram(t *testing.T, program service.Program, roles ...service.Role) *bundle {
	t.Helper()
	b := &bundle{Bundle: paymentstest.New(t, program)}
	b.broker, b.controls = kafkatest.Controlled(t)
	b.Settings.Kafka = b.broker
	if err := kafka.EnsureTopics(t.Context(), b.broker, topics...); err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(b.broker, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(producer.Close)
	b.producer = producer
	b.Broker = topicsOf{b.broker, producer}
	for _, role := range roles {
		b.Start(role)
	}
	return b
}

// database is that of a command beside the service.
func (b *bundle) database() service.Database { return service.Database{Postgres: b.Settings.Postgres} }

// environment is that of a command beside the service.
func (b *bundle) environment() map[string]string {
	db := b.Settings.Postgres
	return map[string]string{"KAFKA_BROKERS": strings.Join(b.broker.Brokers, ","), "POSTGRES_HOST": db.Host,
		"POSTGRES_PORT": fmt.Sprint(db.Port), "POSTGRES_SSLMODE": db.SSLMode, "POSTGRES_DATABASE": db.Database,
		"POSTGRES_USER": db.User, "POSTGRES_PASSWORD": db.Password}
}

// topicsOf are the topics of a broker.
type topicsOf struct {
	cfg      kafka.Config
	producer *kafka.Producer
}

// Produce publishes messages.
func (b topicsOf) Produce(t testing.TB, messages ...kafka.Message) {
	t.Helper()
	for i, err := range b.producer.Produce(t.Context(), messages) {
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
}

// Messages reads a topic from its beginning.
func (b topicsOf) Messages(t testing.TB, topic string,
	done func(messages []kafka.Message) bool) (messages []kafka.Message) {
	t.Helper()
	consumer, err := kafka.NewConsumer(b.cfg, "test-"+uuid.NewString(), []string{topic}, slog.New(slog.DiscardHandler),
		prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := consumer.Run(ctx, func(_ context.Context, batch []kafka.Message) error {
		if messages = append(messages, batch...); done(messages) {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !done(messages) {
		t.Fatalf("after 30 s there are %d messages on %s", len(messages), topic)
	}
	return messages
}
