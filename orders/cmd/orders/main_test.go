package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/platform/tlsfiles"
	"github.com/altyn-pay/altyn/testkit/contracttest"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
	"github.com/altyn-pay/altyn/testkit/swaggertest"
	"github.com/altyn-pay/altyn/testkit/tlstest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

const patience = 30 * time.Second

// configuration is the default one over a database and a broker of the test's own.
func configuration(t testing.TB, db postgrestest.DB, broker kafka.Config) Config {
	t.Helper()
	cfg, err := config.LoadFrom[Config](map[string]string{"ORDERS_ADDR": "127.0.0.1:0", "ORDERS_ADMIN_ADDR": "127.0.0.1:0",
		"LOG_LEVEL": "ERROR"})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Postgres, cfg.Kafka = db.Config, broker
	return cfg
}

// process is a running service.
type process struct {
	url   string             // of its API
	admin string             // of its operators' plane
	stop  context.CancelFunc // SIGTERM
	ended chan error
}

func start(t testing.TB, cfg Config) process {
	t.Helper()
	return startProgram(t, newProgram(cfg))
}

func startProgram(t testing.TB, program service.Program) process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := process{stop: cancel, ended: make(chan error, 1)}
	addresses := make(chan service.Addresses, 1)
	go func() {
		p.ended <- service.Serve(ctx, program, func(a service.Addresses) { addresses <- a })
	}()
	select {
	case a := <-addresses:
		p.url, p.admin = "http://"+a.API.String(), "http://"+a.Admin.String()
	case err := <-p.ended:
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end(t) })
	return p
}

// base is the URL at which a path is served: that of the API or of the operators' plane.
func (p process) base(path string) string {
	for _, prefix := range []string{"/admin/", "/metrics", "/version"} {
		if strings.HasPrefix(path, prefix) {
			return p.admin
		}
	}
	return p.url
}

func (p process) baseOf(o *swaggertest.Operation) string { return p.base(o.Path) }

// end stops the service as SIGTERM does and waits for its end.
func (p process) end(t testing.TB) {
	t.Helper()
	p.stop()
	select {
	case err := <-p.ended:
		if err != nil {
			t.Error(err)
		}
		p.ended <- nil // for the next call
	case <-time.After(patience):
		t.Error("the service does not end")
	}
}

func (p process) call(t testing.TB, method, path, body string, headers ...string) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, p.base(path)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return 0, nil
	}
	defer response.Body.Close()
	var read bytes.Buffer
	if _, err := read.ReadFrom(response.Body); err != nil {
		t.Error(err)
	}
	return response.StatusCode, read.Bytes()
}

// place places an order of an account of its own and returns it.
func (p process) place(t testing.TB, query, amount string, headers ...string) api.Order {
	t.Helper()
	body := `{"account_id": "` + uuid.NewString() + `", "amount": "` + amount + `", "currency": "RUB"}`
	code, answer := p.call(t, "POST", "/api/v1/orders"+query, body, headers...)
	var placed api.Order
	if err := json.Unmarshal(answer, &placed); code != 201 || err != nil {
		t.Errorf("%d %s", code, answer)
	}
	return placed
}

// Each listener has its bound of connections, the operators' too.
func TestConnectionsAreBounded(t *testing.T) {
	cfg := configuration(t, postgrestest.Database(t, "orders", postgres.Migrations()...), kafkatest.Broker(t))
	cfg.HTTP.Limits.AddressConnections = 1
	p := start(t, cfg)
	for _, url := range []string{p.url, p.admin} {
		var served []bool
		for range 2 {
			c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = c.Write([]byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")) // it may be closed by now
			n, _ := c.Read(make([]byte, 1))
			served = append(served, n == 1)
		}
		if !served[0] || served[1] {
			t.Errorf("%s serves its connections: %t", url, served)
		}
	}
}

// The metrics tell when each of the certificates ends.
func TestCertificatesAreWatched(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	ends := time.Now().Truncate(time.Hour)
	issue := func(days int) tlstest.Pair {
		return authority.Issue(t, []string{"127.0.0.1"}, func(c *x509.Certificate) { c.NotAfter = ends.AddDate(0, 0, days) })
	}
	server, broker, database := issue(1), issue(2), issue(3)
	cfg := configuration(t, postgrestest.Database(t, "orders", postgres.Migrations()...), kafkatest.Broker(t))
	cfg.HTTP.TLS.Cert, cfg.HTTP.TLS.Key = server.Cert, server.Key
	cfg.Kafka.TLSCert, cfg.Kafka.TLSKey = broker.Cert, broker.Key
	cfg.Postgres.SSLCert, cfg.Postgres.SSLKey = database.Cert, database.Key
	p := start(t, cfg)
	trust, err := tlsfiles.Open(tlsfiles.Files{CA: authority.File}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust.Client("")}}
	defer client.CloseIdleConnections()
	response, err := client.Get("https" + strings.TrimPrefix(p.admin, "http") + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for days, use := range map[int]string{1: "server", 2: "kafka", 3: "postgres"} {
		want := "altyn_certificate_expiry_timestamp_seconds{use=\"" + use + "\"} " +
			strconv.FormatFloat(float64(ends.AddDate(0, 0, days).Unix()), 'g', -1, 64) + "\n"
		if !strings.Contains(string(text), want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
}

// payments stands in for the service payments: it takes the orders from their topic, pays those below 100.00 and
// cancels what is cancelled, and tells everything twice.
type payments struct {
	mu     sync.Mutex
	placed map[string][]kafka.Message // by order ID
}

func startPayments(t testing.TB, broker kafka.Config) *payments {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	if err := kafka.EnsureTopics(t.Context(), broker, contract.TopicOrders, contract.TopicPayments); err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(broker, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := kafka.NewConsumer(broker, "payments", []string{contract.TopicOrders}, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	p := &payments{placed: map[string][]kafka.Message{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer producer.Close()
		err := consumer.Run(t.Context(), func(ctx context.Context, messages []kafka.Message) error {
			var events []kafka.Message
			for _, m := range messages {
				contracttest.ValidateMessage(t, m) // everything that is published is as documented
			}
			for _, m := range messages {
				p.mu.Lock()
				p.placed[m.Header("ce_subject")] = append(p.placed[m.Header("ce_subject")], m)
				p.mu.Unlock()
				event := settled(m)
				events = append(events, event, event)
			}
			for _, err := range producer.Produce(ctx, events) {
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { <-done })
	return p
}

// settled is what payments tells of an order.
func settled(m kafka.Message) kafka.Message {
	var o contract.Order
	if err := json.Unmarshal(m.Value, &o); err != nil {
		panic(err)
	}
	state := contract.Payment{
		OrderID: o.OrderID, AccountID: o.AccountID, Amount: o.Amount, Currency: o.Currency, Capture: o.Capture,
		Status: contract.PaymentSucceeded, CapturedAmount: o.Amount, RefundedAmount: "0.00", Version: 1,
	}
	event := kafka.Event{ID: uuid.NewString(), Type: contract.PaymentSucceededType, Source: "/payments",
		Subject: o.OrderID.String()}
	switch {
	case m.Header("ce_type") == contract.OrderCancelledType:
		var c contract.Cancellation
		if err := json.Unmarshal(m.Value, &c); err != nil {
			panic(err)
		}
		state.Status, state.Reason, state.RefundedAmount, state.Version = contract.PaymentCancelled, c.Reason, o.Amount, 2
		event.Type = contract.PaymentCancelledType
	case len(o.Amount) > len("99.99"):
		state.Status, state.Reason, state.CapturedAmount = contract.PaymentFailed, "insufficient_funds", "0.00"
		event.Type = contract.PaymentFailedType
	}
	value, err := json.Marshal(state)
	if err != nil {
		panic(err)
	}
	return kafka.Message{Topic: contract.TopicPayments, Key: m.Key, Value: value, Headers: event.Headers()}
}

// of returns the events of an order.
func (p *payments) of(id uuid.UUID) []kafka.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.placed[id.String()]
}

func TestAnOrderIsPaid(t *testing.T) {
	t.Parallel()
	db, broker := postgrestest.Database(t, "orders", postgres.Migrations()...), kafkatest.Broker(t)
	others := startPayments(t, broker)
	p := start(t, configuration(t, db, broker))

	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	paid := p.place(t, "?wait=30s", "25.00", "Traceparent", trace)
	if paid.Status != order.Paid || paid.CapturedAmount != "25.00" {
		t.Errorf("got %+v", paid)
	}
	failed := p.place(t, "?wait=30s", "2500.00")
	if failed.Status != order.Failed || failed.Reason != "insufficient_funds" || failed.CapturedAmount != "0.00" {
		t.Errorf("got %+v", failed)
	}

	events := others.of(paid.ID)
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	event := events[0]
	var told contract.Order
	if err := json.Unmarshal(event.Value, &told); err != nil {
		t.Fatal(err)
	}
	if want := (contract.Order{
		OrderID: paid.ID, AccountID: paid.AccountID, Amount: "25.00", Currency: "RUB", Capture: "automatic",
		OnInsufficient: "reject",
		CreatedAt:      paid.CreatedAt,
	}); told != want {
		t.Errorf("told %+v, want %+v", told, want)
	}
	header := kafka.EventOf(event)
	if header.Type != contract.OrderPlacedType || header.Source != "/orders" || header.Subject != paid.ID.String() ||
		header.Traceparent != trace ||
		header.ID != contract.EventID(contract.OrderPlacedType, paid.ID, 1).String() ||
		string(event.Key) != paid.AccountID.String() {
		t.Errorf("headers %+v, key %s", header, event.Key)
	}

	for path, want := range map[string]string{
		"/healthz": `"ok"`, "/readyz": `"kafka":"ok"`, "/docs/doc.json": "/api/v1/orders/batch", "/docs/": "swagger-ui",
		"/metrics": `altyn_orders_status_total{status="paid"} 1`,
	} {
		if code, answer := p.call(t, "GET", path, ""); code != 200 || !strings.Contains(string(answer), want) {
			t.Errorf("%s: %d %s", path, code, answer)
		}
	}
}

// A cancelled order is told as documented, after its order and under the same key.
func TestAnOrderIsCancelled(t *testing.T) {
	t.Parallel()
	db, broker := postgrestest.Database(t, "orders", postgres.Migrations()...), kafkatest.Broker(t)
	others := startPayments(t, broker)
	p := start(t, configuration(t, db, broker))
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	body := `{"account_id": "` + uuid.NewString() + `", "amount": "25.00", "currency": "RUB", "description": "two tickets",
		"reference": "cart-17",
		"capture": "manual", "await_inventory": true, "on_insufficient": "wait", "expires_in": "15m"}`
	var placed, cancelled api.Order
	if code, answer := p.call(t, "POST", "/api/v1/orders?wait=30s", body); code != 201 ||
		json.Unmarshal(answer, &placed) != nil {
		t.Fatalf("%d %s", code, answer)
	}
	code, answer := p.call(t, "POST", "/api/v1/orders/"+placed.ID.String()+"/cancel?wait=30s", `{"reason": "why"}`,
		"Traceparent", trace)
	if err := json.Unmarshal(answer, &cancelled); err != nil || code != 202 || cancelled.Status != order.Cancelled ||
		cancelled.Reason != "cancelled" || cancelled.Note != "why" ||
		cancelled.RefundedAmount != "25.00" {
		t.Fatalf("%d %s", code, answer)
	}
	events := others.of(placed.ID)
	if len(events) != 2 {
		t.Fatalf("%d events", len(events))
	}
	var first contract.Order
	var second contract.Cancellation
	if err := errors.Join(json.Unmarshal(events[0].Value, &first), json.Unmarshal(events[1].Value, &second)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(second.Order, first) || second.Reason != "cancelled" || second.Note != "why" ||
		time.Time(second.CancelledAt).Before(time.Time(first.CreatedAt)) ||
		first.ExpiresAt == nil || !time.Time(*first.ExpiresAt).Equal(time.Time(first.CreatedAt).Add(15*time.Minute)) {
		t.Errorf("placed %+v, cancelled %+v", first, second)
	}
	if header := kafka.EventOf(events[1]); header.Type != contract.OrderCancelledType ||
		header.Subject != placed.ID.String() || header.Traceparent != trace ||
		header.ID != contract.EventID(contract.OrderCancelledType, placed.ID, 1).String() ||
		string(events[1].Key) != string(events[0].Key) {
		t.Errorf("headers %+v, key %s", header, events[1].Key)
	}
	if code, answer := p.call(t, "GET", "/metrics", ""); code != 200 ||
		!strings.Contains(string(answer), "altyn_orders_cancellations_total 1") {
		t.Errorf("/metrics: %d", code)
	}
}

// The service is stopped and started under load: every order that was accepted is published and settled, each once.
func TestRestartsLoseNothing(t *testing.T) {
	t.Parallel()
	db, broker := postgrestest.Database(t, "orders", postgres.Migrations()...), kafkatest.Broker(t)
	others := startPayments(t, broker)
	cfg := configuration(t, db, broker)
	var ids []uuid.UUID
	for range 3 {
		p := start(t, cfg)
		var all sync.WaitGroup
		var mu sync.Mutex
		for range 100 {
			all.Go(func() {
				placed := p.place(t, "", "25.00")
				mu.Lock()
				defer mu.Unlock()
				ids = append(ids, placed.ID)
			})
		}
		all.Wait()
		p.end(t)
	}
	p := start(t, cfg)
	for _, id := range ids {
		code, answer := p.call(t, "GET", "/api/v1/orders/"+id.String()+"?wait=30s", "")
		var o api.Order
		if err := json.Unmarshal(answer, &o); err != nil || code != 200 || o.Status != order.Paid {
			t.Fatalf("%d %s", code, answer)
		}
		for _, event := range others.of(id) {
			if event.Header("ce_id") != contract.EventID(contract.OrderPlacedType, id, 1).String() {
				t.Errorf("event %s of %s", event.Header("ce_id"), id)
			}
		}
	}
	// What was published before the end, and not deleted any more, is published again.
	postgrestest.AwaitCount(t, db.Service, 0, `
		SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM outbox_waiting)`)
	var transitions int
	if err := db.Service.Get(&transitions, `SELECT count(*) FROM order_history`); err != nil ||
		transitions != len(ids) || len(others.placed) != len(ids) {
		t.Errorf("%v: %d transitions and %d events of %d orders", err, transitions, len(others.placed), len(ids))
	}
}

func TestRolesApart(t *testing.T) {
	t.Parallel()
	db, broker := postgrestest.Database(t, "orders", postgres.Migrations()...), kafkatest.Broker(t)
	startPayments(t, broker)
	cfg := configuration(t, db, broker)
	cfg.Role = service.Worker
	worker := start(t, cfg)
	cfg.Role, cfg.Kafka.Brokers = service.API, []string{"127.0.0.1:1"} // which it does not need
	front := start(t, cfg)

	if placed := front.place(t, "?wait=30s", "25.00"); placed.Status != order.Paid {
		t.Errorf("got %+v", placed)
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/admin/parked": 200,
		"/api/v1/orders": 404, "/docs/": 404} {
		if code, answer := worker.call(t, "GET", path, ""); code != want {
			t.Errorf("worker %s: %d %s", path, code, answer)
		}
	}
	if code, answer := front.call(t, "GET", "/readyz", ""); code != 200 {
		t.Errorf("api /readyz: %d %s", code, answer)
	}
}

// Orders are dated by the database's clock, which all processes share, when they are placed and at each change.
func TestTheTimeIsTheDatabases(t *testing.T) {
	t.Parallel()
	db, broker := postgrestest.Database(t, "orders", postgres.Migrations()...), kafkatest.Broker(t)
	db.SetClock(t, time.Hour)
	startPayments(t, broker)
	p := start(t, configuration(t, db, broker))
	soon := time.Now().Add(time.Hour / 2)
	wait.NoError(t, func() error { // the clock is looked at once the service runs
		if placed := p.place(t, "", "25.00"); time.Time(placed.CreatedAt).Before(soon) {
			return fmt.Errorf("an order is placed at %v", placed.CreatedAt)
		}
		return nil
	})
	paid := p.place(t, "?wait=30s", "25.00")
	if paid.Status != order.Paid || !time.Time(paid.UpdatedAt).After(time.Time(paid.CreatedAt)) {
		t.Errorf("an order is paid at %v: %+v", paid.UpdatedAt, paid)
	}
}

// An event that an earlier version has kept, because it did not know it, takes effect at the start of one that does.
func TestWhatWasKeptTakesEffect(t *testing.T) {
	t.Parallel()
	db, broker := postgrestest.Database(t, "orders", postgres.Migrations()...), kafkatest.Broker(t)
	first := start(t, configuration(t, db, broker))
	placed := first.place(t, "", "25.00")
	first.end(t)
	content, err := json.Marshal(contract.Order{OrderID: placed.ID, AccountID: placed.AccountID, Amount: placed.Amount,
		Currency: placed.Currency, Capture: placed.Capture})
	if err != nil {
		t.Fatal(err)
	}
	kept := postgres.Refused{Message: settled(kafka.Message{Key: []byte(placed.AccountID.String()), Value: content}),
		Reason: order.ErrUnknown}
	if err := postgres.New(db.Service).Keep(t.Context(), []postgres.Refused{kept}); err != nil {
		t.Fatal(err)
	}
	second := start(t, configuration(t, db, broker))
	code, answer := second.call(t, "GET", "/api/v1/orders/"+placed.ID.String()+"?wait=30s", "")
	if code != 200 || !strings.Contains(string(answer), `"paid"`) {
		t.Errorf("%d %s", code, answer)
	}
}

// Orders are accepted while the broker is away, and published when it is there.
func TestTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "orders", postgres.Migrations()...)
	cfg := configuration(t, db, kafkatest.Config("127.0.0.1:1"))
	cfg.Outbox.Messages = contract.Lanes
	p := start(t, cfg)
	placed := p.place(t, "", "25.00")
	if code, answer := p.call(t, "GET", "/readyz", ""); code != 200 ||
		!strings.Contains(string(answer), `"kafka":"failing"`) {
		t.Errorf("/readyz: %d %s", code, answer)
	}
	if code, _ := p.call(t, "GET", "/healthz", ""); code != 200 {
		t.Errorf("/healthz: %d", code)
	}
	// The outbox has a bound. It is looked at each second, so that some more may be accepted.
	body := `{"account_id": "` + placed.AccountID.String() + `", "amount": "25.00", "currency": "RUB"}`
	accepted := 0
	for code := 201; code != 503; {
		var answer []byte
		switch code, answer = p.call(t, "POST", "/api/v1/orders", body); {
		case code == 201:
			accepted++
		case code != 503 || !strings.Contains(string(answer), `"code":"overloaded"`):
			t.Fatalf("after %d orders: %d %s", accepted, code, answer)
		}
	}
	if code, answer := p.call(t, "GET", "/readyz", ""); code != 200 {
		t.Errorf("/readyz of an overloaded service: %d %s", code, answer)
	}
	p.end(t)

	cfg.Kafka = kafkatest.Broker(t)
	startPayments(t, cfg.Kafka)
	p = start(t, cfg)
	for n := 0; n != accepted+1; { // nothing accepted is lost
		if err := db.Service.Get(&n, `SELECT count(*) FROM orders WHERE status = 'paid'`); err != nil {
			t.Fatal(err)
		}
	}
	for code := 503; code != 201; { // there is room again
		if code, _ = p.call(t, "POST", "/api/v1/orders", body); code != 201 && code != 503 {
			t.Fatalf("afterwards: %d", code)
		}
	}
	if code, answer := p.call(t, "GET", "/api/v1/orders/"+placed.ID.String()+"?wait=30s",
		""); !strings.Contains(string(answer), `"status":"paid"`) {
		t.Errorf("%d %s", code, answer)
	}
}

// Who only waits is answered at once when the service is stopped.
func TestStopAnswersWhoWaits(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "orders", postgres.Migrations()...)
	p := start(t, configuration(t, db, kafkatest.Config("127.0.0.1:1")))
	begin := time.Now()
	answered := make(chan api.Order, 1)
	go func() { answered <- p.place(t, "?wait=30s", "25.00") }()
	for n := 0; n == 0; { // until it is placed
		if err := db.Service.Get(&n, `SELECT count(*) FROM orders`); err != nil {
			t.Fatal(err)
		}
	}
	p.end(t)
	if placed := <-answered; placed.Status != order.Pending || time.Since(begin) > 20*time.Second {
		t.Errorf("after %s: %+v", time.Since(begin), placed)
	}
}

// A service waits for a schema that it can serve: until its database is migrated, and where a migration says that it is
// too old. It says so once.
func TestTheSchemaDoesNotFit(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "orders")
	cfg := configuration(t, db, kafkatest.Config("127.0.0.1:1"))
	cfg.Telemetry.LogLevel = slog.LevelWarn
	program, log := newProgram(cfg), new(bytes.Buffer)
	program.Log = log
	p := startProgram(t, program)
	if code, _ := p.call(t, "GET", "/readyz", ""); code != 503 {
		t.Errorf("/readyz before the migration: %d", code)
	}
	body := `{"account_id": "` + uuid.NewString() + `", "amount": "25.00", "currency": "RUB"}`
	if code, answer := p.call(t, "POST", "/api/v1/orders", body); code != 503 {
		t.Errorf("an order before the migration: %d %s", code, answer)
	}
	for range 2 {
		if err := pg.Migrate(t.Context(), cfg.Postgres, slog.New(slog.DiscardHandler), postgres.Migrations()...); err != nil {
			t.Fatal(err)
		}
	}
	ready := func(want int) func() bool {
		return func() bool {
			code, _ := p.call(t, "GET", "/readyz", "")
			return code == want
		}
	}
	wait.Until(t, "it is ready", ready(200))
	wait.Until(t, "it takes orders", func() bool {
		code, _ := p.call(t, "POST", "/api/v1/orders", body)
		return code == 201
	})
	newest := postgres.Migrations()[len(postgres.Migrations())-1]
	if _, err := db.Owner.Exec(fmt.Sprintf(`COMMENT ON TABLE %s_migrations IS 'programs from %d'`, newest.Name,
		newest.Version()+1)); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "the program is too old to be ready", ready(503))
	p.end(t)
	said := make(map[string]int) // by what it waits for, which a look in the middle of the migration sees too
	for line := range strings.Lines(log.String()) {
		if _, why, waits := strings.Cut(line, "waiting for a schema"); waits {
			said[why]++
		}
	}
	for why, times := range said {
		if times > 1 {
			t.Errorf("%d times it says that it waits: %s", times, why)
		}
	}
	if len(said) == 0 || !strings.Contains(log.String(), "run its migrate command") ||
		!strings.Contains(log.String(), "too old") {
		t.Errorf("it does not say why it waits:\n%s", log)
	}
}

func TestThePortIsTaken(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	db := postgrestest.Database(t, "orders", postgres.Migrations()...)
	cfg := configuration(t, db, kafkatest.Config("127.0.0.1:1"))
	taken := listener.Addr().String()
	for _, addr := range []*string{&cfg.Addr, &cfg.AdminAddr} {
		was := *addr
		*addr = taken
		err := service.Serve(t.Context(), newProgram(cfg), nil)
		if err == nil || !strings.Contains(err.Error(), taken) {
			t.Errorf("serve: %v", err)
		}
		*addr = was
	}
}

func TestConfiguration(t *testing.T) {
	cfg, err := config.LoadFrom[Config](nil)
	if err != nil || cfg.Role != service.All || cfg.Addr != ":8080" || cfg.Postgres.Port != 54320 {
		t.Errorf("%v: %+v", err, cfg)
	}
	if _, err := config.LoadFrom[Config](map[string]string{"ROLE": "boss"}); err == nil ||
		!strings.Contains(err.Error(), "ROLE") {
		t.Errorf("a bad role: %v", err)
	}
}

// BenchmarkAlone is the time from a request to its final answer while nothing else happens.
func BenchmarkAlone(b *testing.B) {
	db, broker := postgrestest.Database(b, "orders", postgres.Migrations()...), kafkatest.Broker(b)
	startPayments(b, broker)
	p := start(b, configuration(b, db, broker))
	p.place(b, "?wait=30s", "25.00") // the consumers have joined their groups
	for b.Loop() {
		if placed := p.place(b, "?wait=30s", "25.00"); placed.Status != order.Paid {
			b.Fatalf("got %+v", placed)
		}
	}
}
