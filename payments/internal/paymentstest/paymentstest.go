// Package paymentstest is the bundle of the tests of payments: the service over a real database, asked over HTTP.
package paymentstest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/docs"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/testkit/contracttest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
	"github.com/altyn-pay/altyn/testkit/swaggertest"
)

// Bundle is instances of the service over one database.
type Bundle struct {
	*testing.T
	postgrestest.DB
	Program  service.Program
	Settings service.Config // of instances that are started from now on
	URL      string         // of the API of the instance that is asked
	Broker   Broker

	planes *sync.Map // from the URL of an instance's API to that of its operators' plane
}

// Broker is what the service has its messages from and publishes its own to.
type Broker interface {
	// Produce hands messages to the service.
	Produce(t testing.TB, messages ...kafka.Message)
	// Messages returns what the service has published on a topic, from its beginning, once done is content with it.
	Messages(t testing.TB, topic string, done func(messages []kafka.Message) bool) []kafka.Message
}

// New makes a bundle of a program without any instance. Its test runs in parallel with others.
func New(t *testing.T, program service.Program) *Bundle {
	t.Helper()
	t.Parallel()
	db := postgrestest.Database(t, program.Name, postgres.Migrations()...)
	return &Bundle{T: t, DB: db, Program: program, planes: new(sync.Map), Settings: service.Config{
		Postgres: db.Config, Outbox: outbox.Limits{Messages: 1_000_000, Age: time.Hour},
		Telemetry: telemetry.Config{LogLevel: slog.LevelError + 1},
	}}
}

// Start runs an instance until stop is called or the test ends. The first one is asked from now on.
func (b *Bundle) Start(role service.Role) (url string, stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	addr, done := make(chan service.Addresses, 1), make(chan error, 1)
	cfg := b.Settings
	cfg.Role = role
	go func() { done <- b.Serve(ctx, cfg, func(a service.Addresses) { addr <- a }) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.Errorf("the %s instance ended with %v", role, err)
		}
	})
	b.Cleanup(stop)
	select {
	case a := <-addr:
		url = "http://" + a.API.String()
		b.planes.Store(url, "http://"+a.Admin.String())
		if b.URL == "" {
			b.URL = url
		}
		return url, stop
	case err := <-done:
		done <- err
		b.Fatalf("the %s instance did not start: %v", role, err)
		return "", nil
	}
}

// Through has the instances that are started from now on reach the database through a proxy.
func (b *Bundle) Through() *postgrestest.Proxy {
	b.Helper()
	proxy := postgrestest.Through(b.T, b.Config)
	b.Settings.Postgres = proxy.Config
	return proxy
}

// Serve runs an instance in the foreground.
func (b *Bundle) Serve(ctx context.Context, cfg service.Config, listening func(service.Addresses)) error {
	program := b.Program
	program.Addr, program.AdminAddr, program.Config = "127.0.0.1:0", "127.0.0.1:0", cfg
	return service.Serve(ctx, program, listening)
}

// Base is the URL at which the instance that is asked serves a path: that of its API, or of its operators' plane.
func (b *Bundle) Base(path string) string {
	for _, prefix := range []string{"/admin/", "/metrics", "/version", "/grpc.reflection."} {
		if strings.HasPrefix(path, prefix) {
			plane, _ := b.planes.Load(b.URL)
			return plane.(string)
		}
	}
	return b.URL
}

// BaseOf is the Base of an operation of the specification.
func (b *Bundle) BaseOf(o *swaggertest.Operation) string { return b.Base(o.Path) }

// Specification is what every answer in these tests is held against.
var Specification = sync.OnceValue(func() *swaggertest.Spec { return swaggertest.Load(docs.Document) })

// Answer is what came back over HTTP.
type Answer struct {
	Status int
	Header http.Header
	Body   map[string]any
}

// Call sends a request; body may be nil, a string as it is, or anything that becomes JSON.
func (b *Bundle) Call(method, path string, body any, headers ...string) Answer {
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
	request, err := http.NewRequestWithContext(b.Context(), method, b.Base(path)+path, reader)
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
	out := Answer{Status: response.StatusCode, Header: response.Header}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	Specification().Check(b, method, path, response.StatusCode, response.Header, text)
	if err := json.Unmarshal(text, &out.Body); err != nil {
		b.Errorf("%s %s: %d with a body that is not JSON: %v", method, path, response.StatusCode, err)
	}
	return out
}

// BatchPath is where batches of operations are sent.
const BatchPath = "/api/v1/operations/batch"

// BatchOf is the body of a batch of operations, each of which is JSON.
func BatchOf(operations ...string) string {
	return `{"operations": [` + strings.Join(operations, ", ") + `]}`
}

// Post is a call that must succeed.
func (b *Bundle) Post(path string, body any, headers ...string) Answer {
	b.Helper()
	out := b.Call("POST", path, body, headers...)
	if out.Status != http.StatusCreated {
		b.Fatalf("POST %s %v: %d %v", path, body, out.Status, out.Body)
	}
	return out
}

// Expect ends the test unless an answer has this status and these fields, of pairs of a name and a value.
func (b *Bundle) Expect(got Answer, status int, fields ...any) {
	b.Helper()
	for i := 0; i < len(fields); i += 2 {
		if fmt.Sprint(got.Body[fields[i].(string)]) != fmt.Sprint(fields[i+1]) {
			b.Errorf("%s is %v, want %v", fields[i], got.Body[fields[i].(string)], fields[i+1])
		}
	}
	if got.Status != status || b.Failed() {
		b.Fatalf("%d %v, want %d", got.Status, got.Body, status)
	}
}

// Account opens an account with an amount of roubles, or with nothing.
func (b *Bundle) Account(amount string) uuid.UUID {
	b.Helper()
	id := uuid.MustParse(b.Post("/api/v1/accounts", map[string]any{}).Body["id"].(string))
	if amount != "" {
		b.Post("/api/v1/accounts/"+id.String()+"/deposits", map[string]any{"amount": amount, "currency": "RUB"})
	}
	return id
}

// Balance is an account's actual balance in roubles.
func (b *Bundle) Balance(account uuid.UUID) string {
	b.Helper()
	out := b.Call("GET", fmt.Sprintf("/api/v1/accounts/%s/balance", account), nil)
	return out.Body["actual_balance"].(map[string]any)["RUB"].(string)
}

// Balances are an account's actual and frozen balances in roubles.
func (b *Bundle) Balances(account uuid.UUID) string {
	b.Helper()
	body := b.Call("GET", fmt.Sprintf("/api/v1/accounts/%s/balance", account), nil).Body
	return fmt.Sprint(body["actual_balance"].(map[string]any)["RUB"], " ", body["frozen_balance"].(map[string]any)["RUB"])
}

// Until waits for a query to count n.
func (b *Bundle) Until(n int, query string, args ...any) {
	b.Helper()
	postgrestest.AwaitCount(b, b.Owner, n, query, args...)
}

// Produce hands messages to the service.
func (b *Bundle) Produce(messages ...kafka.Message) {
	b.Helper()
	b.Broker.Produce(b, messages...)
}

// Consume returns what the service has published on a topic, once done is content with it.
func (b *Bundle) Consume(topic string, done func(messages []kafka.Message) bool) []kafka.Message {
	b.Helper()
	messages := b.Broker.Messages(b, topic, done)
	for _, m := range messages {
		contracttest.ValidateMessage(b, m) // everything that is published is as documented
	}
	return messages
}

// Replies reads n replies, or more, from a topic.
func (b *Bundle) Replies(n int, topic string) []contract.Reply {
	b.Helper()
	var replies []contract.Reply
	for _, m := range b.Consume(topic, func(messages []kafka.Message) bool { return len(messages) >= n }) {
		var reply contract.Reply
		if err := json.Unmarshal(m.Value, &reply); err != nil {
			b.Fatal(err)
		}
		replies = append(replies, reply)
	}
	return replies
}
