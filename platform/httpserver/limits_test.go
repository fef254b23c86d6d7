package httpserver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/altyn-pay/altyn/platform/identity"
)

// limitedRouter serves /, which needs a token, and /public, which needs none. The token is tenant/subject.
func limitedRouter(limits Limits, served *int) http.Handler {
	router := NewRouter(Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		Config: Config{Limits: limits},
		Authenticate: func(r *http.Request) (identity.Identity, error) {
			tenant, subject, ok := strings.Cut(r.Header.Get("Authorization"), "/")
			if !ok {
				return identity.Identity{}, identity.ErrUnauthenticated
			}
			return identity.Identity{Tenant: tenant, Subject: subject}, nil
		}})
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*served++
		_, _ = io.Copy(io.Discard, r.Body)
	})
	Mount(router, NewRoute("GET", "/", identity.Anyone, serve), NewRoute("GET", "/public", identity.Public, serve),
		NewRoute("GET", "/orders", identity.OrdersRead, serve))
	return router
}

// visit makes a request of somebody ("" for nobody) from an address, which may be followed by X-Forwarded-For.
func visit(handler http.Handler, path, who, address string) *http.Response {
	r := httptest.NewRequest("GET", "http://localhost"+path, nil)
	peer, forwarded, _ := strings.Cut(address, " ")
	r.RemoteAddr = net.JoinHostPort(peer, "4711")
	if forwarded != "" {
		r.Header.Set("X-Forwarded-For", forwarded)
	}
	if who != "" {
		r.Header.Set("Authorization", who)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w.Result()
}

// Each limit holds for one of its kind and leaves the others alone; a second later there is as much again.
func TestRatesAreOfEachTenantSubjectAndAddress(t *testing.T) {
	const perSecond = 3
	for name, test := range map[string]struct {
		limits       Limits
		kind         string
		same, others [][2]string // who and address that share the limit, and that do not
	}{
		"tenant": {limits: Limits{TenantRate: perSecond}, kind: "tenant",
			same:   [][2]string{{"shop/alice", "1.1.1.1"}, {"shop/bob", "2.2.2.2"}},
			others: [][2]string{{"bank/alice", "1.1.1.1"}}},
		"subject": {limits: Limits{SubjectRate: perSecond}, kind: "subject",
			same:   [][2]string{{"shop/alice", "1.1.1.1"}, {"shop/alice", "2.2.2.2"}},
			others: [][2]string{{"shop/bob", "1.1.1.1"}, {"bank/alice", "1.1.1.1"}}},
		"address": {limits: Limits{AddressRate: perSecond}, kind: "address",
			same:   [][2]string{{"shop/alice", "1.1.1.1"}, {"bank/bob", "1.1.1.1"}, {"", "1.1.1.1"}, {"", "::ffff:1.1.1.1"}},
			others: [][2]string{{"shop/alice", "1.1.1.2"}}},
		"address of IPv6": {limits: Limits{AddressRate: perSecond}, kind: "address",
			same:   [][2]string{{"a/b", "2001:db8:0:1::1"}, {"a/b", "2001:db8:0:1:ffff::2"}},
			others: [][2]string{{"a/b", "2001:db8:0:2::1"}}},
		"nobody is believed": {limits: Limits{AddressRate: perSecond}, kind: "address",
			same:   [][2]string{{"a/b", "9.9.9.9 1.1.1.1"}, {"a/b", "9.9.9.9 2.2.2.2"}, {"a/b", "9.9.9.9"}},
			others: [][2]string{{"a/b", "1.1.1.1"}}},
		"behind proxies": {limits: Limits{AddressRate: perSecond, TrustedProxies: []string{"9.0.0.0/8", "fd00::/8"}},
			kind: "address",
			same: [][2]string{{"a/b", "9.9.9.9 1.1.1.1"}, {"a/b", "9.9.9.8 7.7.7.7, 1.1.1.1, 9.1.1.1"},
				{"a/b", "1.1.1.1 5.5.5.5"}, {"a/b", "fd00::1 1.1.1.1"}},
			others: [][2]string{{"a/b", "9.9.9.9 2.2.2.2"}, {"a/b", "9.9.9.9"}, {"a/b", "9.9.9.7 nonsense"}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				served := 0
				handler := limitedRouter(test.limits, &served)
				for range 2 {
					served = 0
					for i := range 2 * perSecond {
						by := test.same[i%len(test.same)]
						answer := visit(handler, "/", by[0], by[1])
						header, remaining := answer.Header, max(perSecond-1-i, 0)
						if want := fmt.Sprintf(`"%s";q=3;w=1`, test.kind); header.Get("RateLimit-Policy") != want {
							t.Errorf("policy %q, not %q", header.Get("RateLimit-Policy"), want)
						}
						if want := fmt.Sprintf(`"%s";r=%d;t=1`, test.kind, remaining); header.Get("RateLimit") != want {
							t.Errorf("request %d: %q, not %q", i, header.Get("RateLimit"), want)
						}
						if i < perSecond {
							if answer.StatusCode == 429 {
								t.Errorf("request %d of %v is refused", i, by)
							}
							continue
						}
						body, _ := io.ReadAll(answer.Body)
						if answer.StatusCode != 429 || header.Get("Retry-After") != "1" ||
							!strings.Contains(string(body), `"code":"rate_limited"`) ||
							!strings.Contains(string(body), "3 requests per second are allowed for this "+test.kind) {
							t.Errorf("request %d of %v: %d %v %s", i, by, answer.StatusCode, header, body)
						}
					}
					for _, by := range test.others {
						if answer := visit(handler, "/", by[0], by[1]); answer.StatusCode != 200 {
							t.Errorf("%v is %d too", by, answer.StatusCode)
						}
					}
					<-time.After(time.Second) // of the bubble's clock
				}
			})
		})
	}
}

// What a subject does beyond its limit takes nothing of its tenant's, and what an address does beyond its own reaches
// neither. What may not be done counts all the same.
func TestTheNarrowerLimitComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		served := 0
		handler := limitedRouter(Limits{TenantRate: 10, SubjectRate: 4, AddressRate: 100}, &served)
		for range 50 {
			visit(handler, "/", "shop/alice", "1.1.1.1")
		}
		if served != 4 {
			t.Errorf("alice was served %d times", served)
		}
		answer := visit(handler, "/", "shop/bob", "1.1.1.1")
		if want := `"address";r=49;t=1, "subject";r=3;t=1, "tenant";r=5;t=1`; answer.Header.Get("RateLimit") != want {
			t.Errorf("%s, not %s", answer.Header.Get("RateLimit"), want)
		}
		served = 0
		for range 10 {
			visit(handler, "/orders", "shop/carol", "1.1.1.1") // 403
		}
		if answer := visit(handler, "/orders", "shop/carol", "1.1.1.1"); served != 0 || answer.StatusCode != 429 {
			t.Errorf("%d were served without the scope; the eleventh is %d", served, answer.StatusCode)
		}
		for range 100 {
			visit(handler, "/public", "", "1.1.1.1")
		}
		served = 0
		if answer := visit(handler, "/", "shop/dave", "1.1.1.1"); served != 0 || answer.StatusCode != 429 {
			t.Errorf("beyond the address's limit dave gets %d", answer.StatusCode)
		}
		if answer := visit(handler, "/", "shop/dave", "1.1.1.2"); answer.StatusCode != 200 {
			t.Errorf("from elsewhere dave gets %d", answer.StatusCode)
		}
	})
}

func TestWithoutLimitsNothingIsTold(t *testing.T) {
	served := 0
	answer := visit(limitedRouter(Limits{}, &served), "/", "a/b", "1.1.1.1")
	if served != 1 || answer.Header["Ratelimit"] != nil || answer.Header["Ratelimit-Policy"] != nil {
		t.Errorf("served %d times: %v", served, answer.Header)
	}
}

// However many strangers come, what is remembered of them is bounded. Who has a request in flight stays known.
func TestCountersAreBounded(t *testing.T) {
	c := newCounters("address", 1, 1, 0)
	held := c.use("held")
	for i := range 5 * rememberedCounters {
		c.done(c.use(strconv.Itoa(i)))
		if n := len(c.young) + len(c.older); n > 2*rememberedCounters+1 {
			t.Fatalf("%d are remembered", n)
		}
	}
	if again := c.use("held"); again != held || held.uses != 2 {
		t.Error("one in use was forgotten")
	}
	if c.young["0"] != nil || c.older["0"] != nil {
		t.Error("a stranger of long ago is remembered")
	}
}

// A refused request must cost next to nothing.
func BenchmarkRefused(b *testing.B) {
	served := 0
	handler := limitedRouter(Limits{AddressRate: 1}, &served)
	r := httptest.NewRequest("GET", "http://localhost/", nil)
	b.ReportAllocs()
	for b.Loop() {
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
}

// streaming serves endless streams at /.
func streaming(limits Limits) http.Handler {
	router := NewRouter(Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		Config: Config{Limits: limits},
		Authenticate: func(r *http.Request) (identity.Identity, error) {
			return identity.Identity{Tenant: "shop", Subject: r.Header.Get("Authorization")}, nil
		}})
	Mount(router, NewRoute("GET", "/", identity.Anyone, Handle(func(w http.ResponseWriter, r *http.Request) error {
		out, err := NewStream(w, r)
		if err != nil {
			return err
		}
		defer out.End()
		if _, err := io.WriteString(out, "begun\n"); err != nil {
			return err
		}
		<-r.Context().Done()
		return nil
	})))
	return router
}

func TestOpenStreamsAreCounted(t *testing.T) {
	for name, test := range map[string]struct {
		limits Limits
		status int // of another subject's
	}{
		"tenant":  {Limits{TenantStreams: 2}, 429},
		"subject": {Limits{SubjectStreams: 2, TenantStreams: 3}, 200},
		"address": {Limits{AddressStreams: 2}, 429},
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			server := httptest.NewServer(streaming(test.limits))
			defer server.Close()
			open := func(who string) (*http.Response, func()) {
				r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", who)
				answer, err := server.Client().Do(r)
				if err != nil {
					t.Fatal(err)
				}
				line, err := bufio.NewReader(answer.Body).ReadString('\n')
				if answer.StatusCode == 200 && line != "begun\n" {
					t.Error(line, err)
				}
				return answer, func() { answer.Body.Close() }
			}
			for round := range 2 { // after the streams have ended, as many may be opened again
				first, closeFirst := open("alice")
				second, closeSecond := open("alice")
				third, _ := open("alice")
				if round == 0 && (first.StatusCode != 200 || second.StatusCode != 200) {
					t.Errorf("two streams: %s, %s", first.Status, second.Status)
				}
				if third.StatusCode != 429 || third.Header.Get("Retry-After") != "1" {
					t.Errorf("the third stream: %s", third.Status)
				}
				other, closeOther := open("bob")
				if other.StatusCode != test.status {
					t.Errorf("another subject's stream: %s", other.Status)
				}
				closeFirst()
				closeSecond()
				closeOther()
				for deadline := time.Now().Add(10 * time.Second); ; {
					again, closeAgain := open("alice")
					closeAgain()
					if again.StatusCode == 200 {
						break
					}
					if time.Now().After(deadline) {
						t.Fatal("streams that have ended still count")
					}
				}
				server.CloseClientConnections() // the last one ends before the next round
			}
		})
	}
}

// A tenant's bodies take its own room, and leave the others theirs. Small ones pass all the same.
func TestBodiesOfATenantShareItsRoom(t *testing.T) {
	arrived, proceed := make(chan struct{}), make(chan struct{})
	router := NewRouter(Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		Config: Config{Limits: Limits{TenantBodies: 1 << 20}},
		Authenticate: func(r *http.Request) (identity.Identity, error) {
			return identity.Identity{Tenant: r.Header.Get("Authorization")}, nil
		}})
	read := Handle(func(w http.ResponseWriter, r *http.Request) error {
		_, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return BodyProblem(err)
		}
		if r.Header.Get("Hold") != "" {
			arrived <- struct{}{}
			<-proceed
		}
		return nil
	})
	Mount(router, NewRoute("POST", "/", identity.Anyone, read))
	send := func(tenant string, size int, hold string) int {
		r := httptest.NewRequest("POST", "http://localhost/", strings.NewReader(strings.Repeat("x", size)))
		r.Header.Set("Authorization", tenant)
		r.Header.Set("Hold", hold)
		w := httptest.NewRecorder()
		router.ServeHTTP(w, r)
		return w.Code
	}
	held := make(chan int)
	go func() { held <- send("shop", 700<<10, "yes") }()
	<-arrived
	for _, test := range []struct {
		tenant string
		size   int
		status int
	}{{"shop", 700 << 10, 429}, {"bank", 700 << 10, 200}, {"shop", 1 << 10, 200}, {"shop", 200 << 10, 200}} {
		if got := send(test.tenant, test.size, ""); got != test.status {
			t.Errorf("%d bytes of %s: %d, not %d", test.size, test.tenant, got, test.status)
		}
	}
	close(proceed)
	if got := <-held; got != 200 {
		t.Error(got)
	}
	if got := send("shop", 700<<10, ""); got != 200 {
		t.Errorf("once the first is gone: %d", got)
	}
}

// Connections beyond an address's limit are closed at once, those beyond the process's wait.
func TestConnectionsAreCounted(t *testing.T) {
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	connect := func(r *running) net.Conn {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	served := func(c net.Conn, within time.Duration) error {
		_ = c.SetDeadline(time.Now().Add(within))
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			return err
		}
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		return answer.Body.Close()
	}
	const long, short = 10 * time.Second, 100 * time.Millisecond
	for _, test := range []struct {
		limits Limits
		closed bool
	}{
		{Limits{AddressConnections: 2}, true},
		{Limits{Connections: 2}, false},
		{Limits{AddressConnections: 2, Connections: 100}, true},
		{Limits{AddressConnections: 1, Connections: 2, TrustedProxies: []string{"127.0.0.0/8"}}, false},
	} {
		r := start(t, Server{Handler: handler, Limits: test.limits})
		first, second := connect(r), connect(r)
		for _, c := range []net.Conn{first, second} {
			if err := served(c, long); err != nil {
				t.Errorf("%+v: %v", test.limits, err)
			}
		}
		third, within := connect(r), long
		if !test.closed {
			within = short
		}
		if err := served(third, within); err == nil || errors.Is(err, os.ErrDeadlineExceeded) == test.closed {
			t.Errorf("%+v: the third connection: %v", test.limits, err)
		}
		first.Close()
		third.Close()
		for deadline := time.Now().Add(long); served(connect(r), time.Second) != nil; {
			if time.Now().After(deadline) {
				t.Fatalf("%+v: a connection that has ended still counts", test.limits)
			}
		}
	}
}

// An address is forgotten with its last connection.
func TestAddressesAreForgotten(t *testing.T) {
	l := &addressListener{limit: 2, open: make(map[string]int)}
	for _, key := range []string{"a", "a", "b"} {
		if !l.enter(key) {
			t.Errorf("%s is refused, open are %v", key, l.open)
		}
	}
	if l.enter("a") {
		t.Errorf("open are %v", l.open)
	}
	for _, key := range []string{"a", "a", "b"} {
		l.leave(key)
	}
	if len(l.open) > 0 {
		t.Errorf("nothing is open, and remembered are %v", l.open)
	}
}

func TestLimitsThatCannotBeMeant(t *testing.T) {
	good := Limits{TenantRate: 1, Connections: 1, TenantBodies: maxBody,
		TrustedProxies: []string{"10.0.0.0/8", "fd00::/8"}}
	for name, limits := range map[string]Limits{
		"":                          good,
		"LIMIT_TENANT_RATE":         {TenantRate: -1},
		"LIMIT_SUBJECT_RATE":        {SubjectRate: -1},
		"LIMIT_ADDRESS_RATE":        {AddressRate: -1},
		"LIMIT_TENANT_STREAMS":      {TenantStreams: -1},
		"LIMIT_SUBJECT_STREAMS":     {SubjectStreams: -1},
		"LIMIT_ADDRESS_STREAMS":     {AddressStreams: -1},
		"LIMIT_ADDRESS_CONNECTIONS": {AddressConnections: -1},
		"LIMIT_CONNECTIONS":         {Connections: -1},
		"LIMIT_TENANT_BODIES":       {TenantBodies: maxBody - 1},
		"LIMIT_SUBJECT_BODIES":      {SubjectBodies: maxBody - 1},
		"LIMIT_ADDRESS_BODIES":      {AddressBodies: maxBody - 1},
		"TRUSTED_PROXIES":           {TrustedProxies: []string{"10.0.0.0/8", "10.0.0.1"}},
	} {
		err := limits.Validate()
		if name == "" && err != nil || name != "" && (err == nil || !strings.HasPrefix(err.Error(), name+" must be ")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
