package api_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/placing"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/operators"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/watch"
	"github.com/altyn-pay/altyn/testkit/outboxtest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// bundle is the API over a database of its own.
type bundle struct {
	db      postgrestest.DB
	store   *postgres.Store
	hub     *watch.Hub[order.Order]
	server  *httptest.Server
	metrics *prometheus.Registry
	woken   *atomic.Int64
	full    *atomic.Uint64 // a bit for each lane for whose orders there is no room
}

func setup(t testing.TB) bundle {
	t.Helper()
	db := postgrestest.Database(t, "orders", postgres.Migrations()...)
	b := over(t, db.Service)
	b.db = db
	return b
}

// over is the API over any database, for everyone.
func over(t testing.TB, db *sqlx.DB) bundle {
	t.Helper()
	return overFor(t, db, httpserver.Everyone)
}

// overFor is the API over any database for those whom authenticate knows.
func overFor(t testing.TB, db *sqlx.DB, authenticate func(*http.Request) (identity.Identity, error)) bundle {
	t.Helper()
	currencies, err := money.LoadCurrencies("")
	if err != nil {
		t.Fatal(err)
	}
	log, metrics := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	b := bundle{store: postgres.New(db), metrics: metrics, woken: new(atomic.Int64), full: new(atomic.Uint64)}
	b.hub = watch.New(log, func(o order.Order) int64 { return o.Version }, b.store.Newer)
	router := httpserver.NewRouter(httpserver.Options{Logger: log, Registerer: metrics, Classify: api.Classify,
		Authenticate: authenticate})
	orders := placing.New(b.store, currencies, func(o order.Order) { b.hub.Publish(o.ID, o) }, func() { b.woken.Add(1) },
		func(lane int16) bool { return b.full.Load()&(1<<lane) != 0 }, nil, log, metrics)
	httpserver.Mount(router, api.New(orders, b.store, currencies, b.hub, metrics).Routes()...)
	httpserver.Mount(router, operators.NewAPI(db, log).Routes()...)
	b.server = httptest.NewServer(router)
	b.server.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = 256
	b.server.Client().Timeout = time.Minute // an event stream that opens and should not is an error, not a hang
	t.Cleanup(b.server.Close)
	return b
}

// follow makes the hub hear of what other processes commit, until the test is over.
func (b bundle) follow(t testing.TB) {
	feed := watch.Listen(b.db.Config, postgres.Changes, slog.New(slog.DiscardHandler))
	done := make(chan error)
	go func() { done <- b.hub.Run(t.Context(), feed) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

const account = "0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11"

const body = `{"account_id": "` + account + `", "amount": "2500.00", "currency": "RUB"}`

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// call sends a request; headers come in pairs.
func (b bundle) call(t testing.TB, method, path, body string, headers ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, b.server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := b.server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var read bytes.Buffer
	if _, err := read.ReadFrom(response.Body); err != nil {
		t.Fatal(err)
	}
	specification().Check(t, method, path, response.StatusCode, response.Header, read.Bytes())
	return answer{response.StatusCode, response.Header, read.Bytes()}
}

// decode reads an answer that must have the status.
func decode[T any](t testing.TB, a answer, status int) T {
	t.Helper()
	var v T
	if a.status != status {
		t.Fatalf("status %d instead of %d: %s", a.status, status, a.body)
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return v
}

func wantProblem(t testing.TB, a answer, status int, code string) httpserver.Problem {
	t.Helper()
	p := decode[httpserver.Problem](t, a, status)
	if p.Code != code || p.Status != status || a.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("problem %s %s instead of %s", a.header.Get("Content-Type"), a.body, code)
	}
	return p
}

// settle applies a payment as the status worker does, without telling this process's hub.
func (b bundle) settle(t testing.TB, id uuid.UUID, status string, version int64, reason string) order.Order {
	t.Helper()
	var o order.Order
	err := b.store.InTx(t.Context(), func(tx *sqlx.Tx) error {
		locked, err := b.store.Lock(t.Context(), tx, []uuid.UUID{id})
		if err != nil {
			return err
		}
		o = locked[id]
		p := order.Payment{
			EventID: uuid.New(), OrderID: id, AccountID: o.AccountID, Currency: o.Currency, Amount: o.Amount,
			Status: status, Reason: reason, Version: version,
		}
		if status == contract.PaymentSucceeded || status == contract.PaymentRefunded {
			p.Captured = o.Amount
		}
		transition, err := o.Apply(p, time.Now())
		if err != nil || transition == nil {
			return err
		}
		return b.store.Save(t.Context(), tx, []order.Order{o}, []order.Transition{*transition})
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestPlaceAndGet(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const sent = `{"account_id": "` + account + `", "amount": 2500, "currency": "RUB", "description": "<b>ё</b>",
		"reference": "shop-17", "capture": "automatic", "await_inventory": false,
		"on_insufficient": "reject", "expires_in": null}`
	a := b.call(t, "POST", "/api/v1/orders", sent)
	placed := decode[api.Order](t, a, 201)
	if a.header.Get("Location") != "/api/v1/orders/"+placed.ID.String() || a.header.Get("Idempotent-Replayed") != "" ||
		placed.ID.Version() != 7 {
		t.Errorf("headers %v of %s", a.header, placed.ID)
	}
	if age := time.Since(time.Time(placed.CreatedAt)); age < 0 || age > time.Minute ||
		placed.UpdatedAt != placed.CreatedAt {
		t.Errorf("created %s ago, updated %s", age, placed.UpdatedAt)
	}
	if b.woken.Load() != 1 {
		t.Error("the relay was not woken")
	}
	got := b.call(t, "GET", a.header.Get("Location"), "")
	if got.status != 200 || !bytes.Equal(got.body, a.body) {
		t.Errorf("%d %s\nwas placed as %s", got.status, got.body, a.body)
	}
	var fields map[string]any
	if err := json.Unmarshal(a.body, &fields); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"id": placed.ID.String(), "account_id": account, "amount": "2500.00", "currency": "RUB", "description": "<b>ё</b>",
		"reference": "shop-17", "capture": "automatic", "await_inventory": false, "status": "pending",
		"captured_amount": "0.00",
		"refunded_amount": "0.00", "created_at": fields["created_at"], "updated_at": fields["updated_at"],
	}
	if !reflect.DeepEqual(fields, want) {
		t.Errorf("got %s", a.body)
	}
}

func TestPlaceTheWholeSaga(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const sent = `{"account_id": "` + account + `", "amount": 2500, "currency": "RUB", "capture": "manual",
		"await_inventory": true,
		"on_insufficient": "wait", "expires_in": "1h30m"}`
	a := b.call(t, "POST", "/api/v1/orders", sent, "Idempotency-Key", "saga")
	placed := decode[api.Order](t, a, 201)
	if placed.Capture != contract.CaptureManual || !placed.AwaitInventory || placed.Status != order.Pending ||
		placed.ExpiresAt == nil || !time.Time(*placed.ExpiresAt).Equal(time.Time(placed.CreatedAt).Add(90*time.Minute)) {
		t.Errorf("placed %s", a.body)
	}
	again := b.call(t, "POST", "/api/v1/orders", strings.Replace(sent, "1h30m", "90m", 1), "Idempotency-Key", "saga")
	if again.status != 201 || !bytes.Equal(again.body, a.body) || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("again %d %s", again.status, again.body)
	}
	wantProblem(t, b.call(t, "POST", "/api/v1/orders", strings.Replace(sent, "1h30m", "91m", 1),
		"Idempotency-Key", "saga"),
		422, httpserver.CodeIdempotencyKeyReused)
	payload := outboxtest.Messages(t, b.db.Service)[0].Payload
	var told contract.Order
	if err := json.Unmarshal([]byte(payload), &told); err != nil || told.Capture != contract.CaptureManual ||
		!told.AwaitInventory ||
		told.OnInsufficient != contract.OnInsufficientWait || told.ExpiresAt == nil || *told.ExpiresAt != *placed.ExpiresAt {
		t.Errorf("%v: told %s", err, payload)
	}
}

// The timeline tells what a payment waited for and what became of it, also where the order's status stays.
func TestTimelineHasEveryVersionOfThePayment(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := "/api/v1/orders/" + decode[api.Order](t, b.call(t, "POST", "/api/v1/orders", body), 201).ID.String()
	id := uuid.MustParse(strings.TrimPrefix(path, "/api/v1/orders/"))
	for i, step := range []struct{ status, reason, shown string }{
		{contract.PaymentCreated, "waiting_for_inventory", "waiting_for_inventory"},
		{contract.PaymentCreated, "inventory_completed", "inventory_completed"},
		{contract.PaymentCreated, "waiting_for_funds", "waiting_for_funds"},
		{contract.PaymentSucceeded, "", ""},
		{contract.PaymentRefunded, "", ""},
		{contract.PaymentRefunded, "", ""},
	} {
		b.settle(t, id, step.status, int64(i+1), step.reason)
		b.settle(t, id, step.status, int64(i+1), step.reason)
		if got := decode[api.Order](t, b.call(t, "GET", path, ""), 200); got.Reason != step.shown {
			t.Errorf("after %+v: reason %q", step, got.Reason)
		}
	}
	var got []string
	timeline := decode[api.Timeline](t, b.call(t, "GET", path+"/timeline", ""), 200)
	for i, item := range timeline.Items {
		got = append(got, string(item.Status)+" "+item.Reason)
		if item.EventID == nil || i > 0 && item.At.String() < timeline.Items[i-1].At.String() {
			t.Errorf("item %+v", item)
		}
	}
	if want := []string{"pending ", "pending waiting_for_inventory", "pending inventory_completed",
		"pending waiting_for_funds", "paid ",
		"paid refunded", "paid refunded"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, path := range []string{uuid.NewString(), uuid.NewString() + "/timeline", uuid.NewString() + "?wait=0s"} {
		wantProblem(t, b.call(t, "GET", "/api/v1/orders/"+path, ""), 404, api.CodeOrderNotFound)
	}
	for _, path := range []string{"17", "17/timeline", "0198c5a75f6e7c3e9d573f1f6a0f8e11",
		uuid.NewString() + "?wait=31s"} {
		wantProblem(t, b.call(t, "GET", "/api/v1/orders/"+path, ""), 400, httpserver.CodeValidationFailed)
	}
	wantProblem(t, b.call(t, "PUT", "/api/v1/orders", body), 405, httpserver.CodeMethodNotAllowed)
}

func TestTimeline(t *testing.T) {
	t.Parallel()
	b := setup(t)
	placed := decode[api.Order](t, b.call(t, "POST", "/api/v1/orders", body), 201)
	path := "/api/v1/orders/" + placed.ID.String() + "/timeline"
	event := contract.EventID(contract.OrderPlacedType, placed.ID, 1)
	first := api.TimelineItem{At: placed.CreatedAt, Status: order.Pending, EventID: &event}
	got := decode[api.Timeline](t, b.call(t, "GET", path, ""), 200)
	if !reflect.DeepEqual(got.Items, []api.TimelineItem{first}) {
		t.Errorf("got %+v", got)
	}
	failed := b.settle(t, placed.ID, contract.PaymentFailed, 1, "insufficient_funds")
	got = decode[api.Timeline](t, b.call(t, "GET", path, ""), 200)
	if len(got.Items) != 2 || !reflect.DeepEqual(got.Items[0], first) || got.Items[1].EventID == nil ||
		got.Items[1].Status != order.Failed || got.Items[1].Reason != "insufficient_funds" ||
		got.Items[1].At != contract.Time(failed.UpdatedAt) {
		t.Errorf("got %+v", got)
	}
}

func TestWaitEndsWhenTheOrderIsSettled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.follow(t)
	// A key tells the order's ID beforehand.
	id := contract.DerivedID(api.Path, uuid.MustParse(account), "wait")
	answers := make(chan answer, 2)
	begin := time.Now()
	go func() { answers <- b.call(t, "POST", "/api/v1/orders?wait=30s", body, "Idempotency-Key", "wait") }()
	for { // until it is placed
		if got := b.call(t, "GET", "/api/v1/orders/"+id.String(), ""); got.status == 200 {
			break
		}
	}
	go func() { answers <- b.call(t, "GET", "/api/v1/orders/"+id.String()+"?wait=30s", "") }()
	b.settle(t, id, contract.PaymentSucceeded, 1, "")
	for range 2 {
		a := <-answers
		if o := decode[api.Order](t, a, a.status); o.Status != order.Paid || o.CapturedAmount != "2500.00" {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	// What is settled already is not waited for.
	settled := b.call(t, "GET", "/api/v1/orders/"+id.String()+"?wait=30s", "")
	if o := decode[api.Order](t, settled, 200); o.Status != order.Paid {
		t.Errorf("got %+v", o)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestWaitEndsWithItsTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.follow(t)
	a := b.call(t, "POST", "/api/v1/orders?wait=50ms", body)
	if o := decode[api.Order](t, a, 201); o.Status != order.Pending {
		t.Errorf("got %s", a.body)
	}
}

func TestOneKeyIsOneOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const copies = 32
	var all sync.WaitGroup
	var fresh, others atomic.Int64
	ids := make([]uuid.UUID, copies)
	for i := range copies {
		all.Go(func() {
			a := b.call(t, "POST", "/api/v1/orders", body, "Idempotency-Key", "the key")
			ids[i] = decode[api.Order](t, a, 201).ID
			if a.header.Get("Location") != "/api/v1/orders/"+ids[i].String() {
				t.Errorf("Location %q", a.header.Get("Location"))
			}
			switch a.header.Get("Idempotent-Replayed") {
			case "":
				fresh.Add(1)
			case "true":
				others.Add(1)
			}
		})
	}
	all.Wait()
	if fresh.Load() != 1 || others.Load() != copies-1 {
		t.Errorf("%d fresh, %d replayed", fresh.Load(), others.Load())
	}
	for _, id := range ids {
		if id != ids[0] || id.Version() != 5 {
			t.Errorf("%s beside %s", id, ids[0])
		}
	}
	var orders, events int
	if err := b.db.Service.QueryRow(`SELECT (SELECT count(*) FROM orders), (SELECT sum(count) FROM outbox)`).
		Scan(&orders, &events); err != nil ||
		orders != 1 || events != 1 {
		t.Errorf("%v: %d orders, %d events", err, orders, events)
	}

	// The same request in other words gets the order in its present state; another request is refused.
	b.settle(t, ids[0], contract.PaymentSucceeded, 1, "")
	a := b.call(t, "POST", "/api/v1/orders?wait=30s",
		`{"currency": "RUB", "amount": 2500, "account_id": "`+account+`", "capture": "automatic", "description": ""}`,
		"Idempotency-Key", "the key")
	if o := decode[api.Order](t, a, 201); o.ID != ids[0] || o.Status != order.Paid ||
		o.IdempotencyKey != "the key" || o.Owner != "" || a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("replayed %s", a.body)
	}
	wantProblem(t, b.call(t, "POST", "/api/v1/orders", strings.Replace(body, "2500", "2501", 1),
		"Idempotency-Key", "the key"),
		422, httpserver.CodeIdempotencyKeyReused)
	// A key belongs to its account.
	other := strings.Replace(body, account, uuid.NewString(), 1)
	a = b.call(t, "POST", "/api/v1/orders", other, "Idempotency-Key", "the key")
	if decode[api.Order](t, a, 201).ID == ids[0] || a.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("of another account: %s", a.body)
	}
	// A request that was refused may be repaired under the same key.
	wantProblem(t, b.call(t, "POST", "/api/v1/orders", strings.Replace(body, "RUB", "rub", 1),
		"Idempotency-Key", "refused"),
		400, httpserver.CodeValidationFailed)
	decode[api.Order](t, b.call(t, "POST", "/api/v1/orders", body, "Idempotency-Key", "refused"), 201)
}

func TestList(t *testing.T) {
	t.Parallel()
	b := setup(t)
	// As a service does when it starts.
	if _, err := b.db.Service.Exec(`INSERT INTO currencies VALUES ('RUB', 2), ('USDT', 6)`); err != nil {
		t.Fatal(err)
	}
	other := uuid.NewString()
	var ids []uuid.UUID
	for i := range 5 {
		sent := body
		if i%2 == 1 {
			sent = strings.Replace(body, account, other, 1)
		}
		sent = strings.Replace(sent, `{`, `{"reference": "ref `+string(rune('0'+i))+`", `, 1)
		ids = append(ids, decode[api.Order](t, b.call(t, "POST", "/api/v1/orders", sent), 201).ID)
	}
	b.settle(t, ids[3], contract.PaymentFailed, 1, "insufficient_funds")
	for query, want := range map[string][]int{
		"":                                      {4, 3, 2, 1, 0},
		"?account_id=" + other:                  {3, 1},
		"?status=failed":                        {3},
		"?status=paid":                          nil,
		"?reference=ref%202":                    {2},
		"?limit=2":                              {4, 3},
		"?status=pending&account_id=" + account: {4, 2, 0},
		"?reason=insufficient_funds":            {3},
		"?reason=expired":                       nil,
		"?reference_prefix=ref":                 {4, 3, 2, 1, 0},
		"?reference_prefix=ref%204":             {4},
		"?reference_prefix=ef":                  nil,
		"?owner=alice":                          nil,
		"?owner_prefix=a":                       nil,
		"?from=2026-01-01T00:00:00Z":            {4, 3, 2, 1, 0},
		"?to=2026-01-01T00:00:00Z":              nil,
		"?currency=USDT":                        nil,
		"?currency=RUB&min_amount=2500":         {4, 3, 2, 1, 0},
		"?currency=RUB&max_amount=2499.99":      nil,
		"?currency=RUB&min_amount=2500.01":      nil,
		"?min_amount=2499.9999&max_amount=2500": {4, 3, 2, 1, 0},
		"?min_amount=2500.0001":                 nil,
		"?max_amount=2499.9999":                 nil,
	} {
		a := b.call(t, "GET", "/api/v1/orders"+query, "")
		page := decode[httpserver.List[api.Order]](t, a, 200)
		var got []uuid.UUID
		for _, o := range page.Items {
			got = append(got, o.ID)
		}
		var wanted []uuid.UUID
		for _, i := range want {
			wanted = append(wanted, ids[i])
		}
		if !reflect.DeepEqual(got, wanted) || (page.NextCursor != "") != (query == "?limit=2") ||
			bytes.Contains(a.body, []byte("null")) {
			t.Errorf("%s: %s", query, a.body)
		}
		if page.NextCursor == "" { // then it is as long as the CSV
			csv := b.call(t, "GET", "/api/v1/orders"+query, "", "Accept", "text/csv")
			lines := strings.Split(strings.TrimSuffix(string(csv.body), "\r\n"), "\r\n")
			got := []string{"id"}
			for _, o := range page.Items {
				got = append(got, o.ID.String())
			}
			begins := func(line, id string) bool { return strings.HasPrefix(line, id+",") }
			if csv.status != 200 || !slices.EqualFunc(lines, got, begins) {
				t.Errorf("%s as CSV: %d %s", query, csv.status, csv.body)
			}
			continue
		}
		rest := decode[httpserver.List[api.Order]](t, b.call(t, "GET", "/api/v1/orders?cursor="+page.NextCursor, ""), 200)
		if len(rest.Items) != 3 || rest.Items[0].ID != ids[2] || rest.NextCursor != "" {
			t.Errorf("the rest: %+v", rest)
		}
	}
	for _, query := range []string{
		"limit=0", "limit=201", "limit=x", "cursor=x", "cursor=AAAAAAAAAAA", "cursor=__________8", "account_id=17",
		"status=PAID", "status=created",
		"reference=" + strings.Repeat("a", 201), "reference=%00", "reference=%ff", "reference=",
		"reference_prefix=" + strings.Repeat("a", 201), "owner=", "owner=a&owner=a",
		"owner_prefix=" + strings.Repeat("a", 201),
		"reason=" + strings.Repeat("a", 201), "from=today", "to=2026-01-01", "currency=RUBLES", "currency=rub",
		"min_amount=x&currency=RUB", "min_amount=0&currency=RUB", "min_amount=-1&currency=RUB",
		"max_amount=1.001&currency=RUB", "max_amount=1e3", "min_amount=", "min_amount=99999999999999999999",
	} {
		a := b.call(t, "GET", "/api/v1/orders?"+query, "")
		p := wantProblem(t, a, 400, httpserver.CodeValidationFailed)
		if name, _, _ := strings.Cut(query, "="); len(p.Errors) != 1 || p.Errors[0].Field != name {
			t.Errorf("%s: %s", query, a.body)
		}
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sent := `{"orders": [` + body + `, {"amount": 1, "currency": "RUB"}, ` + strings.Replace(body, "2500.00", "0.001", 1) +
		`, ` + body + `]}`
	a := b.call(t, "POST", "/api/v1/orders/batch", sent, "Idempotency-Key", "a batch")
	first := decode[api.Results](t, a, 200)
	if len(first.Items) != 4 || a.header.Get("Idempotent-Replayed") != "" {
		t.Fatalf("got %s", a.body)
	}
	for i, item := range first.Items {
		if item.Index != i || (item.Order == nil) == (item.Problem == nil) {
			t.Errorf("item %d: %+v", i, item)
		}
	}
	if first.Items[0].Order.ID == first.Items[3].Order.ID || first.Items[0].Order.Status != order.Pending {
		t.Errorf("got %s", a.body)
	}
	for i, field := range map[int]string{1: "orders[1].account_id", 2: "orders[2].amount"} {
		if p := first.Items[i].Problem; p.Status != 400 || p.Code != httpserver.CodeValidationFailed ||
			p.Errors[0].Field != field {
			t.Errorf("item %d: %+v", i, p)
		}
	}

	a = b.call(t, "POST", "/api/v1/orders/batch", sent, "Idempotency-Key", "a batch")
	if again := decode[api.Results](t, a, 200); !reflect.DeepEqual(again, first) ||
		a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("again: %s", a.body)
	}
	var orders, events int
	if err := b.db.Service.QueryRow(`SELECT (SELECT count(*) FROM orders), (SELECT sum(count) FROM outbox)`).
		Scan(&orders, &events); err != nil ||
		orders != 2 || events != 2 {
		t.Errorf("%v: %d orders, %d events", err, orders, events)
	}

	for name, sent := range map[string]string{
		"orders":           `{"orders": []}`,
		"orders[1].amount": `{"orders": [` + body + `, {"amount": true}]}`,
		"orders[0].colour": `{"orders": [{"colour": 1}]}`,
		"orders[1]":        `{"orders": [` + body + `, 17]}`,
		"orders ":          `{"orders": [` + strings.Repeat(`{},`, 1000) + `{}]}`,
	} {
		a := b.call(t, "POST", "/api/v1/orders/batch", sent)
		if p := decode[httpserver.Problem](t, a, 400); len(p.Errors) != 1 || p.Errors[0].Field != strings.TrimSpace(name) {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	full := decode[api.Results](t, b.call(t, "POST", "/api/v1/orders/batch",
		`{"orders": [`+strings.Repeat(body+`,`, 999)+body+`]}`), 200)
	if len(full.Items) != 1000 || full.Items[999].Order == nil {
		t.Errorf("%d items", len(full.Items))
	}
}

func TestTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	db, err := pg.Open(pg.Config{Host: "127.0.0.1", Port: 1, SSLMode: "disable", MaxConns: 1}.Defaults("orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	b := over(t, db)
	for _, a := range []answer{
		b.call(t, "POST", "/api/v1/orders", body), b.call(t, "GET", "/api/v1/orders", ""),
		b.call(t, "POST", "/api/v1/orders/batch", `{"orders": [`+body+`]}`),
		b.call(t, "GET", "/api/v1/orders/"+account, ""), b.call(t, "GET", "/api/v1/orders/"+account+"/timeline", ""),
		b.call(t, "POST", "/api/v1/orders/"+account+"/cancel", ""),
	} {
		wantProblem(t, a, 503, httpserver.CodeUnavailable)
	}
}
