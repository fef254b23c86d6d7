package operators_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/actions"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/operators"
	"github.com/altyn-pay/altyn/platform/parked"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// shelf is a source in memory. What has the kind "vital" cannot be discarded.
type shelf struct {
	db    *sqlx.DB
	items []parked.Item // sorted
	fail  error
	done  []string
}

func (s *shelf) Parked(_ context.Context, after parked.Position, limit int) ([]parked.Item, error) {
	var page []parked.Item
	for _, item := range s.items {
		if cmp.Or(item.Position().At.Compare(after.At), bytes.Compare(item.ID[:], after.ID[:])) > 0 && len(page) < limit {
			page = append(page, item)
		}
	}
	return page, s.fail
}

func (s *shelf) take(ctx context.Context, id uuid.UUID, what string, record parked.Record) (parked.Item, error) {
	if s.fail != nil {
		return parked.Item{}, s.fail
	}
	i := slices.IndexFunc(s.items, func(item parked.Item) bool { return item.ID == id })
	if i < 0 {
		return parked.Item{}, parked.ErrNotFound
	}
	item := s.items[i]
	if item.Kind == "vital" && what != "redriven" {
		return parked.Item{}, fmt.Errorf("kind %s: %w", item.Kind, parked.ErrNotDiscardable)
	}
	if err := pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error { return record(ctx, tx, item) }); err != nil {
		return parked.Item{}, err
	}
	s.items, s.done = slices.Delete(s.items, i, i+1), append(s.done, what)
	return item, nil
}

func (s *shelf) Redrive(ctx context.Context, id uuid.UUID, record parked.Record) (parked.Item, error) {
	return s.take(ctx, id, "redriven", record)
}

func (s *shelf) Discard(ctx context.Context, id uuid.UUID, reason string, record parked.Record) (parked.Item, error) {
	return s.take(ctx, id, "discarded: "+reason, record)
}

func TestMain(m *testing.M) { postgrestest.Main(m) }

// bundle is the API over two shelves.
type bundle struct {
	*testing.T
	postgrestest.DB
	who        identity.Identity
	one, other shelf
	log        bytes.Buffer
	url        string
}

func setup(t *testing.T) *bundle {
	t.Parallel()
	b := &bundle{T: t, who: identity.Everyone}
	b.DB = postgrestest.Database(t, "operators", actions.Migrations())
	b.one.db, b.other.db = b.Service, b.Service
	log := slog.New(slog.NewJSONHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	router := httpserver.NewRouter(httpserver.Options{
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		Authenticate: func(*http.Request) (identity.Identity, error) { return b.who, nil },
	})
	httpserver.Mount(router, operators.NewAPI(b.Service, log, &b.one, &b.other).Routes()...)
	server := httptest.NewServer(router)
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func (b *bundle) call(method, path, body string) (status int, answer map[string]any) {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		b.Fatalf("%s %s: %s", method, path, text)
	}
	problem := response.Header.Get("Content-Type") == "application/problem+json"
	if problem != (response.StatusCode >= 400) {
		b.Errorf("%s %s: %d as %s", method, path, response.StatusCode, response.Header.Get("Content-Type"))
	}
	return response.StatusCode, answer
}

func item(kind string, at time.Time) parked.Item {
	i := parked.Item{ID: uuid.New(), Kind: kind, AccountID: uuid.New(), Reason: "cannot", Attempts: 8,
		ParkedAt: contract.Time(at)}
	return i.Show("inbox", []byte(`{"amount":"1.00"}`))
}

func TestTheListMergesItsSourcesInPages(t *testing.T) {
	b := setup(t)
	now := time.Now().UTC().Truncate(time.Microsecond)
	var want []string
	for i := range 25 {
		it := item("payment", now.Add(time.Duration(i/3)*time.Second)) // three of a time
		if i%2 == 0 {
			b.one.items = append(b.one.items, it)
		} else {
			b.other.items = append(b.other.items, it)
		}
		want = append(want, it.ParkedAt.String()+" "+it.ID.String())
	}
	for _, s := range []*shelf{&b.one, &b.other} {
		slices.SortFunc(s.items, parked.Compare)
	}
	slices.Sort(want)
	slices.Sort(want)
	walk := func(limit int) {
		t.Helper()
		var got []string
		for cursor := ""; ; {
			status, page := b.call("GET", fmt.Sprintf("/admin/parked?limit=%d%s", limit, cursor), "")
			items := page["items"].([]any)
			if status != 200 || len(items) > limit {
				t.Fatalf("%d: %d items", status, len(items))
			}
			for _, it := range items {
				got = append(got, it.(map[string]any)["parked_at"].(string)+" "+it.(map[string]any)["id"].(string))
			}
			next, more := page["next_cursor"].(string)
			if !more {
				break
			}
			cursor = "&cursor=" + next
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d:\n%q, want\n%q", limit, got, want)
		}
	}
	for _, limit := range []int{1, 4, 25, 200} {
		walk(limit)
	}
	b.one.items, b.other.items = append(b.one.items, b.other.items...), nil
	slices.SortFunc(b.one.items, parked.Compare)
	walk(4)
	b.one.items, b.other.items = nil, nil
	if _, page := b.call("GET", "/admin/parked", ""); fmt.Sprint(page) != "map[items:[]]" {
		t.Errorf("nothing parked: %v", page)
	}
}

func TestRedriveAndDiscardAreAnsweredAndLogged(t *testing.T) {
	b := setup(t)
	first, second := item("payment", time.Now()), item("vital", time.Now())
	b.one.items, b.other.items = []parked.Item{first}, []parked.Item{second}
	status, got := b.call("POST", "/admin/parked/"+first.ID.String()+"/discard", `{"reason": "agreed in ticket 42"}`)
	if status != 202 || got["id"] != first.ID.String() || got["source"] != "inbox" || got["kind"] != "payment" ||
		got["attempts"] != 8.0 ||
		got["account_id"] != first.AccountID.String() || fmt.Sprint(got["payload"]) != "map[amount:1.00]" {
		t.Errorf("discard: %d %v", status, got)
	}
	if status, got := b.call("POST", "/admin/parked/"+second.ID.String()+"/redrive", ""); status != 202 ||
		got["id"] != second.ID.String() {
		t.Errorf("redrive: %d %v", status, got)
	}
	if fmt.Sprint(b.one.done, b.other.done) != "[discarded: agreed in ticket 42] [redriven]" {
		t.Errorf("done %q and %q", b.one.done, b.other.done)
	}
	lines := strings.Split(strings.TrimSpace(b.log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"WARN","msg":"parked message discarded"`) ||
		!strings.Contains(lines[0], first.ID.String()) ||
		!strings.Contains(lines[0], `"reason":"agreed in ticket 42"`) ||
		!strings.Contains(lines[1], `"parked message redriven"`) ||
		!strings.Contains(lines[1], `"error":"cannot"`) || !strings.Contains(lines[1], `"request_id":"`) {
		t.Errorf("logged %q", lines)
	}
}

func TestRefusalsNameTheirCause(t *testing.T) {
	b := setup(t)
	vital := item("vital", time.Now())
	b.other.items = []parked.Item{vital}
	path := "/admin/parked/" + vital.ID.String()
	for _, test := range []struct {
		method, path, body string
		status             int
		code, field        string
	}{
		{"GET", "/admin/parked?limit=201", "", 400, "validation_failed", "limit"},
		{"GET", "/admin/parked?limit=0", "", 400, "validation_failed", "limit"},
		{"GET", "/admin/parked?cursor=nonsense", "", 400, "validation_failed", "cursor"},
		{"GET", "/admin/parked?cursor=e30x", "", 400, "validation_failed", "cursor"},
		{"GET", "/admin/actions?limit=201", "", 400, "validation_failed", "limit"},
		{"GET", "/admin/actions?cursor=e30x", "", 400, "validation_failed", "cursor"},
		{"DELETE", "/admin/actions", "", 405, "method_not_allowed", ""},
		{"POST", path + "/redrive", `{"reason": "` + strings.Repeat("я", 201) + `"}`, 400, "validation_failed", "reason"},
		{"POST", path + "/redrive", `{"why": "y"}`, 400, "unknown_field", "why"},
		{"POST", "/admin/parked/1/redrive", "", 400, "validation_failed", "id"},
		{"POST", "/admin/parked/1/discard", `{"reason": "x"}`, 400, "validation_failed", "id"},
		{"POST", path + "/discard", `{}`, 400, "validation_failed", "reason"},
		{"POST", path + "/discard", `{"reason": " "}`, 400, "validation_failed", "reason"},
		{"POST", path + "/discard", `{"reason": "` + strings.Repeat("я", 201) + `"}`, 400, "validation_failed", "reason"},
		{"POST", path + "/discard", `{"reason": "x", "why": "y"}`, 400, "unknown_field", "why"},
		{"POST", path + "/discard", `[]`, 400, "invalid_json", ""},
		{"POST", path + "/discard", `{"reason": "x"}`, 422, "not_discardable", ""},
		{"POST", "/admin/parked/" + uuid.NewString() + "/redrive", "", 404, "parked_not_found", ""},
		{"POST", "/admin/parked/" + uuid.NewString() + "/discard", `{"reason": "x"}`, 404, "parked_not_found", ""},
		{"DELETE", "/admin/parked", "", 405, "method_not_allowed", ""},
	} {
		status, got := b.call(test.method, test.path, test.body)
		if status != test.status || got["code"] != test.code || !strings.Contains(fmt.Sprint(got["errors"]), test.field) {
			t.Errorf("%s %s %s: %d %v", test.method, test.path, test.body, status, got)
		}
	}
	if status, _ := b.call("POST", path+"/redrive", ""); status != 202 {
		t.Errorf("afterwards: %d", status)
	}
	b.one.fail = errors.New("the database said no")
	for _, path := range []string{"/admin/parked/" + uuid.NewString() + "/redrive"} {
		if status, got := b.call("POST", path, ""); status != 500 || strings.Contains(fmt.Sprint(got), "database") {
			t.Errorf("POST %s: %d %v", path, status, got)
		}
	}
	if status, got := b.call("GET", "/admin/parked", ""); status != 500 || strings.Contains(fmt.Sprint(got), "database") {
		t.Errorf("GET: %d %v", status, got)
	}
}

// Each action is listed with who did it, what it was done to and why, the newest first. What was refused is not there.
// Nobody can change the record.
func TestActionsAreRecorded(t *testing.T) {
	b := setup(t)
	vital := item("vital", time.Now())
	b.other.items = []parked.Item{vital}
	b.call("POST", "/admin/parked/"+vital.ID.String()+"/discard", `{"reason": "refused"}`)
	b.call("POST", "/admin/parked/"+uuid.NewString()+"/redrive", "")
	type did struct{ subject, action, object, reason string }
	var want []did
	for i := range 7 {
		it := item("payment", time.Now())
		b.one.items = []parked.Item{it}
		b.who = identity.Identity{Tenant: "shop", Subject: fmt.Sprint("operator-", i), Scopes: identity.Everyone.Scopes}
		one := did{b.who.Subject, "parked.redrive", it.ID.String(), fmt.Sprint("because ", i)}
		path := "/admin/parked/" + it.ID.String() + "/redrive"
		if i%2 == 0 {
			one.action, path = "parked.discard", "/admin/parked/"+it.ID.String()+"/discard"
		}
		if status, got := b.call("POST", path, `{"reason": "`+one.reason+`"}`); status != 202 {
			t.Fatalf("%d %v", status, got)
		}
		want = append(want, one)
	}
	slices.Reverse(want)
	for _, limit := range []int{1, 3, 7, 200} {
		var got []did
		for cursor := ""; ; {
			status, page := b.call("GET", fmt.Sprintf("/admin/actions?limit=%d%s", limit, cursor), "")
			if status != 200 {
				t.Fatalf("%d %v", status, page)
			}
			for _, each := range page["items"].([]any) {
				a := each.(map[string]any)
				got = append(got, did{a["subject"].(string), a["action"].(string), a["object"].(string), a["reason"].(string)})
				detail := a["detail"].(map[string]any)
				if a["tenant"] != "shop" || a["request_id"] == "" || detail["id"] != a["object"] || detail["source"] != "inbox" {
					t.Errorf("listed %v", a)
				}
			}
			next, more := page["next_cursor"].(string)
			if !more {
				break
			}
			cursor = "&cursor=" + next
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %v, want %v", limit, got, want)
		}
	}
	for _, statement := range []string{`UPDATE admin_actions SET reason = ''`, `DELETE FROM admin_actions`,
		`TRUNCATE admin_actions`} {
		if _, err := b.Service.Exec(statement); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", statement, err)
		}
	}
}
