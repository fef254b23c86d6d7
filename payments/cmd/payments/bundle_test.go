package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/testkit/contracttest"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// standard is the service with its default settings.
var standard = program(Config{HealAfter: time.Minute})

// bundle is the service as a whole over a real database and a broker.
type bundle struct {
	*testing.T
	postgrestest.DB
	program  service.Program
	broker   kafka.Config
	controls *kafkatest.Controls // of the broker
	producer *kafka.Producer
	url      string // of the first instance
	coins    string // CURRENCIES_FILE of the instances
	limits   outbox.Limits
}

// setup starts one instance of each role.
func setup(t *testing.T, roles ...service.Role) *bundle {
	t.Helper()
	return setupProgram(t, standard, roles...)
}

func setupProgram(t *testing.T, program service.Program, roles ...service.Role) *bundle {
	t.Helper()
	t.Parallel()
	broker, controls := kafkatest.Controlled(t)
	b := &bundle{T: t, program: program, DB: postgrestest.Database(t, name, postgres.Migrations()...), broker: broker, controls: controls,
		limits: outbox.Limits{Messages: 1_000_000, Age: time.Hour}}
	if err := kafka.EnsureTopics(t.Context(), b.broker, topics...); err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(b.broker, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(producer.Close)
	b.producer = producer
	for i, role := range roles {
		url, _ := b.start(role)
		if i == 0 {
			b.url = url
		}
	}
	return b
}

// start runs an instance until stop is called or the test ends.
func (b *bundle) start(role service.Role) (url string, stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	addr, done := make(chan net.Addr, 1), make(chan error, 1)
	cfg := service.Config{Role: role, Postgres: b.Config, Kafka: b.broker, Currencies: b.coins, Outbox: b.limits,
		Telemetry: telemetry.Config{LogLevel: slog.LevelError + 1}}
	go func() { done <- b.serve(ctx, cfg, func(a net.Addr) { addr <- a }) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.Errorf("the %s instance ended with %v", role, err)
		}
	})
	b.Cleanup(stop)
	select {
	case a := <-addr:
		return "http://" + a.String(), stop
	case err := <-done:
		done <- err
		b.Fatalf("the %s instance did not start: %v", role, err)
		return "", nil
	}
}

// serve runs an instance in the foreground.
func (b *bundle) serve(ctx context.Context, cfg service.Config, listening func(net.Addr)) error {
	program := b.program
	program.Addr, program.Config = "127.0.0.1:0", cfg
	return service.Serve(ctx, program, listening)
}

// answer is what came back over HTTP.
type answer struct {
	status int
	header http.Header
	body   map[string]any
}

// call sends a request; body may be nil, a string as it is, or anything that becomes JSON.
func (b *bundle) call(method, path string, body any, headers ...string) answer {
	b.Helper()
	var reader io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		reader = bytes.NewBufferString(body)
	default:
		text, err := json.Marshal(body)
		if err != nil {
			b.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(b.Context(), method, b.url+path, reader)
	if err != nil {
		b.Fatal(err)
	}
	if reader != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	out := answer{status: response.StatusCode, header: response.Header}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	specification().Check(b, method, path, response.StatusCode, response.Header, text)
	if err := json.Unmarshal(text, &out.body); err != nil {
		b.Errorf("%s %s: %d with a body that is not JSON: %v", method, path, response.StatusCode, err)
	}
	return out
}

// post is a call that must succeed.
func (b *bundle) post(path string, body any, headers ...string) answer {
	b.Helper()
	out := b.call("POST", path, body, headers...)
	if out.status != http.StatusCreated {
		b.Fatalf("POST %s %v: %d %v", path, body, out.status, out.body)
	}
	return out
}

// account opens an account with money.
func (b *bundle) account(amount string) uuid.UUID {
	b.Helper()
	id := uuid.MustParse(b.post("/api/v1/accounts", map[string]any{}).body["id"].(string))
	if amount != "" {
		b.post("/api/v1/accounts/"+id.String()+"/deposits", map[string]any{"amount": amount, "currency": "RUB"})
	}
	return id
}

// order makes the event of a new order.
func order(account uuid.UUID, amount string) contract.Order {
	return contract.Order{OrderID: uuid.Must(uuid.NewV7()), AccountID: account, Amount: amount, Currency: "RUB",
		Capture: contract.CaptureAutomatic, CreatedAt: contract.Time(time.Now())}
}

func record(o contract.Order) kafka.Message {
	payload, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	event := kafka.Event{ID: uuid.NewString(), Type: contract.OrderPlacedType, Source: "/orders", Subject: o.OrderID.String()}
	return kafka.Message{Topic: contract.TopicOrders, Key: []byte(o.AccountID.String()), Value: payload, Headers: event.Headers()}
}

// produce publishes messages.
func (b *bundle) produce(messages ...kafka.Message) {
	b.Helper()
	for i, err := range b.producer.Produce(b.Context(), messages) {
		if err != nil {
			b.Fatalf("message %d: %v", i, err)
		}
	}
}

// consume reads a topic from its beginning until done is content with what has come.
func (b *bundle) consume(topic string, done func(messages []kafka.Message) bool) []kafka.Message {
	b.Helper()
	consumer, err := kafka.NewConsumer(b.broker, "test-"+uuid.NewString(), []string{topic}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	var messages []kafka.Message
	if err := consumer.Run(ctx, func(_ context.Context, batch []kafka.Message) error {
		if messages = append(messages, batch...); done(messages) {
			cancel()
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	for _, m := range messages {
		contracttest.ValidateMessage(b, m) // everything that is published is as documented
	}
	if !done(messages) {
		b.Fatalf("after 30 s there are %d messages on %s", len(messages), topic)
	}
	return messages
}

// until waits for a query to count n.
func (b *bundle) until(n int, query string, args ...any) {
	b.Helper()
	postgrestest.AwaitCount(b, b.Owner, n, query, args...)
}

// balance is an account's actual balance in roubles.
func (b *bundle) balance(account uuid.UUID) string {
	b.Helper()
	out := b.call("GET", fmt.Sprintf("/api/v1/accounts/%s/balance", account), nil)
	return out.body["actual_balance"].(map[string]any)["RUB"].(string)
}
