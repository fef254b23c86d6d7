package httpserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// logBuffer is a log that tests read while a server writes it.
type logBuffer struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

func testRouter(t *testing.T, classify func(error) *Problem) (chi.Router, *logBuffer) {
	t.Helper()
	log := new(logBuffer)
	logger := slog.New(slog.NewJSONHandler(log, nil))
	return NewRouter(Options{Logger: logger, Registerer: prometheus.NewRegistry(), Classify: classify}), log
}

// do sends a request and reads its answer to the end.
func do(t *testing.T, request *http.Request) (*http.Response, Problem) {
	t.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var problem Problem
	if response.Header.Get("Content-Type") == "application/problem+json" && len(body) > 0 {
		if err := json.Unmarshal(body, &problem); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		if problem.Status != response.StatusCode || problem.Title == "" || problem.Type != "about:blank" {
			t.Errorf("incomplete problem: %s", body)
		}
	} else if response.StatusCode >= 400 && request.Method != http.MethodHead {
		t.Errorf("%s is no problem+json: %s", response.Status, body)
	}
	return response, problem
}

func newRequest(t *testing.T, method, url string, headers ...string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return request
}

var errDatabase = errors.New("dial tcp 10.0.0.7:5432: connection refused")

func TestErrorsBecomeProblems(t *testing.T) {
	router, log := testRouter(t, func(err error) *Problem {
		if errors.Is(err, errDatabase) {
			return Unavailable(err)
		}
		return nil
	})
	router.Get("/problem", Handle(func(http.ResponseWriter, *http.Request) error {
		return fmt.Errorf("wrapped: %w", NewProblem(422, "insufficient_funds", "the balance is too low"))
	}))
	router.Get("/database", Handle(func(http.ResponseWriter, *http.Request) error {
		return fmt.Errorf("load: %w", errDatabase)
	}))
	router.Get("/unknown", Handle(func(http.ResponseWriter, *http.Request) error { return errors.New("secret") }))
	router.Get("/panic", func(http.ResponseWriter, *http.Request) { panic("secret") })
	router.Get("/encode", Handle(func(w http.ResponseWriter, _ *http.Request) error {
		return WriteJSON(w, 200, func() {})
	}))
	router.Get("/items/{id}", Handle(func(w http.ResponseWriter, r *http.Request) error {
		_, err := PathUUID(r, "id")
		return err
	}))
	router.Post("/items/{id}", func(http.ResponseWriter, *http.Request) {})
	router.Route("/sub", func(sub chi.Router) { sub.Get("/a", func(http.ResponseWriter, *http.Request) {}) })
	s := httptest.NewServer(router)
	defer s.Close()

	for _, test := range []struct {
		method, path string
		status       int
		code, allow  string
		logged       string
	}{
		{"GET", "/problem", 422, "insufficient_funds", "", `"level":"INFO"`},
		{"GET", "/database", 503, CodeUnavailable, "", `connection refused`},
		{"GET", "/unknown", 500, CodeInternal, "", `"error":"secret"`},
		{"GET", "/panic", 500, CodeInternal, "", `panic: secret`},
		{"GET", "/encode", 500, CodeInternal, "", `unsupported type`},
		{"GET", "/nowhere", 404, CodeNotFound, "", `"route":"unmatched"`},
		{"GET", "/sub/nowhere", 404, CodeNotFound, "", `"status":404`},
		{"PUT", "/items/1", 405, CodeMethodNotAllowed, "GET, HEAD, POST, OPTIONS", `"status":405`},
		{"POST", "/sub/a", 405, CodeMethodNotAllowed, "GET, HEAD, OPTIONS", `"status":405`},
		{"BREW", "/sub/a", 405, CodeMethodNotAllowed, "GET, HEAD, OPTIONS", `"status":405`},
		{"BREW", "/nowhere", 404, CodeNotFound, "", ""},
		{"OPTIONS", "/items/1", 204, "", "GET, HEAD, POST, OPTIONS", ""},
		{"OPTIONS", "/sub/a", 204, "", "GET, HEAD, OPTIONS", ""},
		{"OPTIONS", "/nowhere", 404, CodeNotFound, "", ""},
		{"GET", "/items/x", 400, CodeValidationFailed, "", `"route":"/items/{id}"`},
		{"HEAD", "/items/018f5e3a-0000-7000-8000-000000000001", 200, "", "", ""},
		{"GET", "/items/{018f5e3a-0000-7000-8000-000000000001}", 400, CodeValidationFailed, "", ""},
		{"GET", "/items/x?owner=%00", 400, CodeValidationFailed, "", `"status":400`},
		{"GET", "/items/x?owner=%ff", 400, CodeValidationFailed, "", ""},
		{"GET", "/items/x?owner=%zz", 400, CodeValidationFailed, "", ""},
		{"GET", "/items/%00", 400, CodeValidationFailed, "", ""},
		{"GET", "/items/%ff", 400, CodeValidationFailed, "", ""},
	} {
		t.Run(test.method+test.path, func(t *testing.T) {
			before := len(log.String())
			response, problem := do(t, newRequest(t, test.method, s.URL+test.path))
			if response.StatusCode != test.status || problem.Code != test.code || response.Header.Get("Allow") != test.allow {
				t.Errorf("got %d %q, Allow %q", response.StatusCode, problem.Code, response.Header.Get("Allow"))
			}
			if strings.Contains(fmt.Sprint(problem), "secret") {
				t.Errorf("internals leak: %v", problem)
			}
			if response.StatusCode == 503 && response.Header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
			wait.Until(t, "it logs "+test.logged, func() bool { return strings.Contains(log.String()[before:], test.logged) })
		})
	}
}

// Whoever has no token cannot fill the log, and hides nobody else's failure by what he does.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	log := new(logBuffer)
	router := NewRouter(Options{
		Logger:     slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: prometheus.NewRegistry(),
		Authenticate: func(r *http.Request) (identity.Identity, error) {
			if r.Header.Get("Authorization") == "" {
				return identity.Identity{}, identity.ErrUnauthenticated
			}
			return identity.Everyone, nil
		},
	})
	Mount(router, NewRoute("GET", "/orders", identity.OrdersRead, http.HandlerFunc(NotFound)))
	ask := func(path, token string) (line string) {
		before := len(log.String())
		request := httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost"+path, nil)
		request.Header.Set("Authorization", token)
		router.ServeHTTP(httptest.NewRecorder(), request)
		return log.String()[before:]
	}
	for range strangersBurst {
		ask("/orders", "")
		ask("/nowhere", "")
	}
	const info = `"level":"INFO"`
	if said := strings.Count(log.String(), info); said < strangersBurst || said == 2*strangersBurst {
		t.Errorf("%d of %d requests of strangers have a line at info", said, 2*strangersBurst)
	}
	if line := ask("/orders", "Bearer"); !strings.Contains(line, info) || !strings.Contains(line, `"status":404`) {
		t.Errorf("one who is known: %s", line)
	}
}

func TestRequestIDAndTrace(t *testing.T) {
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	url := server(t, "GET", "/", func(w http.ResponseWriter, r *http.Request) error {
		return WriteJSON(w, 200, map[string]string{"id": RequestID(r.Context()), "trace": telemetry.Traceparent(r.Context())})
	})
	for _, test := range []struct {
		id, trace         string
		keepID, keepTrace bool
	}{
		{"abc-123", trace, true, true},
		{"", "", false, false},
		{"with blank", "00-zz", false, false},
		{"ключ", trace, false, true},
		{strings.Repeat("x", 128), trace, true, true},
		{strings.Repeat("x", 129), trace, false, true},
	} {
		request := newRequest(t, "GET", url, "X-Request-Id", test.id, "Traceparent", test.trace)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		var seen struct{ ID, Trace string }
		err = json.NewDecoder(response.Body).Decode(&seen)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if (seen.ID == test.id) != test.keepID || seen.ID == "" || response.Header.Get("X-Request-Id") != seen.ID {
			t.Errorf("ID %q became %q, answered %q", test.id, seen.ID, response.Header.Get("X-Request-Id"))
		}
		if _, valid := telemetry.ParseTraceparent(seen.Trace); (seen.Trace == test.trace) != test.keepTrace || !valid {
			t.Errorf("trace %q became %q", test.trace, seen.Trace)
		}
	}
}

func TestClientThatLeftIsNoError(t *testing.T) {
	log, registry := new(logBuffer), prometheus.NewRegistry()
	debug := slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	router := NewRouter(Options{Logger: debug, Registerer: registry})
	arrived := make(chan struct{})
	router.Get("/", Handle(func(_ http.ResponseWriter, r *http.Request) error {
		close(arrived)
		<-r.Context().Done()
		return r.Context().Err()
	}))
	s := httptest.NewServer(router)
	defer s.Close()
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-arrived; leave() }()
	request, _ := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
	if response, err := http.DefaultClient.Do(request); err == nil {
		response.Body.Close()
		t.Fatal("an answer came")
	}
	wait.Until(t, "the lost client is logged", func() bool { return strings.Contains(log.String(), `"status":499`) })
	if strings.Contains(log.String(), "ERROR") {
		t.Error(log.String())
	}
	if got := total(t, registry, "499"); got != 1 {
		t.Errorf("counted %v times", got)
	}
}

// total sums altyn_http_requests_total over a code.
func total(t *testing.T, registry *prometheus.Registry, code string) (sum float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "altyn_http_requests_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "code" && label.GetValue() == code {
					sum += metric.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

func TestOutcomeCountsInPlaceOfTheStatus(t *testing.T) {
	for _, test := range []struct {
		err    error
		code   string
		logged string
	}{
		{contract.Invalid("amount", "is too large"), "400", `"level":"INFO"`},
		{errors.New("secret"), "500", `"error":"secret"`},
		{context.Canceled, "499", ""},
	} {
		log, registry := new(logBuffer), prometheus.NewRegistry()
		router := NewRouter(Options{Logger: slog.New(slog.NewJSONHandler(log, nil)), Registerer: registry})
		router.Get("/", func(w http.ResponseWriter, r *http.Request) {
			ctx, leave := context.WithCancel(r.Context())
			defer leave()
			if errors.Is(test.err, context.Canceled) {
				leave()
			}
			if p := Outcome(ctx, test.err); (p == nil) != (test.code == "499") {
				t.Errorf("%v: %v", test.err, p)
			}
			_, _ = io.WriteString(w, "an answer of another form")
		})
		recorder := httptest.NewRecorder()
		router.ServeHTTP(recorder, httptest.NewRequest("GET", "http://localhost/", nil))
		if recorder.Code != http.StatusOK || recorder.Body.String() != "an answer of another form" {
			t.Errorf("%v: the answer is %d %s", test.err, recorder.Code, recorder.Body)
		}
		if got := total(t, registry, test.code); got != 1 {
			t.Errorf("%v: counted %v times as %s", test.err, got, test.code)
		}
		if (log.String() == "") != (test.logged == "") || !strings.Contains(log.String(), test.logged) {
			t.Errorf("%v: logged %s", test.err, log)
		}
	}
	if p := Outcome(t.Context(), errors.New("secret")); p == nil || p.Status != http.StatusInternalServerError {
		t.Errorf("outside of a router: %v", p)
	}
}

func TestSuccessIsSilentAtInfo(t *testing.T) {
	router, log := testRouter(t, nil)
	router.Get("/", func(http.ResponseWriter, *http.Request) {})
	router.Get("/readyz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	recorder := httptest.NewRecorder()
	router.ServeHTTP(recorder, httptest.NewRequest("GET", "http://localhost/", nil))
	router.ServeHTTP(recorder, httptest.NewRequest("GET", "http://localhost/readyz", nil))
	if log.String() != "" {
		t.Error(log.String())
	}
}

func TestPanicAfterTheAnswerBeganBreaksTheConnection(t *testing.T) {
	router, log := testRouter(t, nil)
	router.Get("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		panic("late")
	})
	s := httptest.NewServer(router)
	defer s.Close()
	response, err := http.Get(s.URL)
	if err == nil {
		_, err = io.ReadAll(response.Body)
		response.Body.Close()
	}
	if err == nil {
		t.Error("the client took half an answer for a whole one")
	}
	wait.Until(t, "the panic is logged", func() bool { return strings.Contains(log.String(), "panic: late") })
}

func TestParameters(t *testing.T) {
	for _, test := range []struct {
		query string
		limit int
		bad   string
	}{
		{"", 50, ""}, {"limit=1&other=1", 1, ""}, {"limit=200", 200, ""},
		{"limit=0", 0, "limit"}, {"limit=201", 0, "limit"}, {"limit=", 0, "limit"}, {"limit=1e2", 0, "limit"},
		{"limit=-1", 0, "limit"}, {"limit=99999999999999999999", 0, "limit"},
		{"cursor=" + strings.Repeat("x", 9<<10), 0, "cursor"}, {"cursor=", 0, "cursor"},
	} {
		limit, err := Page(httptest.NewRequest("GET", "/?"+test.query, nil), new(int64))
		if err == nil && limit != test.limit || fieldOf(err) != test.bad {
			t.Errorf("page %q: %d, %v", test.query, limit, err)
		}
	}
	for _, test := range []struct {
		query string
		wait  time.Duration
		asked bool
		bad   string
	}{
		{"", 0, false, ""}, {"wait=5s", 5 * time.Second, true, ""}, {"wait=0s", 0, true, ""},
		{"wait=30s", 30 * time.Second, true, ""},
		{"wait=31s", 0, false, "wait"}, {"wait=-1s", 0, false, "wait"}, {"wait=5", 0, false, "wait"},
		{"wait=", 0, false, "wait"},
	} {
		got, asked, err := Wait(httptest.NewRequest("GET", "/?"+test.query, nil))
		if got != test.wait || asked != test.asked || fieldOf(err) != test.bad {
			t.Errorf("wait %q: %v, %v, %v", test.query, got, asked, err)
		}
	}
	for _, test := range []struct {
		values []string
		key    string
		bad    string
	}{
		{nil, "", ""}, {[]string{"a"}, "a", ""}, {[]string{strings.Repeat("ж", 255)}, strings.Repeat("ж", 255), ""},
		{[]string{""}, "", "Idempotency-Key"}, {[]string{"a", "b"}, "", "Idempotency-Key"},
		{[]string{"a\tb"}, "", "Idempotency-Key"},
		{[]string{strings.Repeat("x", 256)}, "", "Idempotency-Key"}, {[]string{"\xff"}, "", "Idempotency-Key"},
		{[]string{`"a"`}, "a", ""}, {[]string{` "a" `}, "a", ""}, {[]string{`"say \"a\\\""`}, `say "a\"`, ""},
		{[]string{`a"b"`}, `a"b"`, ""},
		{[]string{`"a", "b"`}, "", "Idempotency-Key"}, {[]string{`"a";q=1`}, "", "Idempotency-Key"},
		{[]string{`"a`}, "", "Idempotency-Key"},
		{[]string{`""`}, "", "Idempotency-Key"}, {[]string{`"`}, "", "Idempotency-Key"},
		{[]string{`"a\"`}, "", "Idempotency-Key"},
		{[]string{`"\a"`}, "", "Idempotency-Key"}, {[]string{`"ж"`}, "", "Idempotency-Key"},
		{[]string{"\"a\tb\""}, "", "Idempotency-Key"},
		{[]string{`"` + strings.Repeat("x", 256) + `"`}, "", "Idempotency-Key"},
		{[]string{`"` + strings.Repeat(`\\`, 255) + `"`}, strings.Repeat(`\`, 255), ""},
		{[]string{`"a"`, "a"}, "", "Idempotency-Key"},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header["Idempotency-Key"] = test.values
		key, err := IdempotencyKey(r.Header)
		if key != test.key || fieldOf(err) != test.bad {
			t.Errorf("key %q: %q, %v", test.values, key, err)
		}
	}
}

func fieldOf(err error) string {
	if p := AsProblem(err); p != nil {
		return p.Errors[0].Field
	}
	return ""
}

func BenchmarkRouter(b *testing.B) {
	logger := slog.New(slog.NewJSONHandler(io.Discard, nil))
	router := NewRouter(Options{Logger: logger, Registerer: prometheus.NewRegistry()})
	router.Get("/api/v1/orders/{id}", func(http.ResponseWriter, *http.Request) {})
	request := httptest.NewRequest("GET", "/api/v1/orders/018f5e3a-0000-7000-8000-000000000001?wait=5s", nil)
	b.ReportAllocs()
	for b.Loop() {
		router.ServeHTTP(httptest.NewRecorder(), request)
	}
}
