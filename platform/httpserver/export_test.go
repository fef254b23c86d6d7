package httpserver

import (
	"context"
	"encoding/csv"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/contract"
)

func TestAccepted(t *testing.T) {
	for accept, want := range map[string]string{
		"":                               JSON,
		"*/*":                            JSON,
		"text/html,*/*;q=0.8":            JSON,
		"application/json":               JSON,
		"application/*":                  JSON,
		"text/csv":                       CSV,
		"TEXT/CSV;header=present":        CSV,
		"text/*":                         CSV,
		"text/csv, */*":                  CSV,
		"text/csv;q=0.5, */*;q=0.1":      CSV,
		"text/csv;q=0.5, */*":            JSON,
		"text/csv, application/json":     JSON,
		"text/csv;q=0, */*":              JSON,
		"application/json;q=0, text/csv": CSV,
		"text/x-ledger; dialect=bean":    Ledger,
		"text/html":                      "",
		"text/csv;q=0":                   "",
		"text/csv;q=two":                 "",
		";;":                             "",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept", accept)
		media, parameters, err := Accepted(r, JSON, CSV, Ledger)
		if p := AsProblem(err); media != want || (want == "") != (p != nil && p.Code == CodeNotAcceptable) {
			t.Errorf("%q: %q, %v", accept, media, err)
		}
		if asked := parameters["dialect"]; (asked == "bean") != (want == Ledger) {
			t.Errorf("%q asks for %q", accept, asked)
		}
		if export := AsksForExport(r); export != (want == CSV || want == Ledger) {
			t.Errorf("%q asks for an export: %v", accept, export)
		}
	}
}

type part struct {
	Code string `json:"code"`
}

type item struct {
	ID     uuid.UUID      `json:"id"`
	Text   string         `json:"text,omitempty"`
	Amount string         `json:"amount"`
	Open   bool           `json:"open"`
	At     *contract.Time `json:"at,omitempty"`
	Number int64          `json:"number"`
	Hidden string         `json:"-"`
	Parts  []part         `json:"parts"`
}

// Whatever a text is, a reader of CSV has it again, and no spreadsheet takes it for a formula.
func TestCSV(t *testing.T) {
	texts := []string{"", "plain", "a,b", `"q"`, "two\r\nlines", "\n", "ein Text; mit Strich", " space", "-5", "-5.00",
		"5", "=1+1", "+1", "@SUM(A1)", "-1+cmd|' /C calc'!A0", "\t=1", "\r=1", "＝1", "－1", "'", "'=1", "-", "-.5", "5.",
		"＠", "\n=1"}
	at := 0
	var out strings.Builder
	for piece, err := range CSVPieces(func() ([]item, bool, error) {
		at++
		page := []item{{ID: uuid.Max, Text: texts[at-1], Amount: "-1.50", Number: 7}}
		if at == 2 {
			page[0].Parts = []part{{"RUB"}, {"=USDT"}}
		}
		return page, at < len(texts), nil
	}) {
		if err != nil {
			t.Fatal(err)
		}
		out.Write(piece)
	}
	if !strings.HasPrefix(out.String(), "id,text,amount,open,at,number,code\r\n") {
		t.Errorf("%.100q", out.String())
	}
	id := uuid.Max.String()
	line := "\r\n" + id + ",plain,-1.50,false,,7,"
	if want := line + "RUB" + line + "\"'=USDT\"\r\n"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in %q", want, out.String())
	}
	// encoding/csv makes LF of CR LF; what it reads is compared like this.
	lines, err := csv.NewReader(strings.NewReader(out.String())).ReadAll()
	if err != nil || len(lines) != len(texts)+2 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	lines = append(lines[:2], lines[3:]...)
	for i, text := range texts {
		cell := lines[i+1][1]
		if strings.IndexAny(cell, "=+-@\t\r\n＝＋－＠") == 0 && !isAmount(cell) {
			t.Errorf("%q is evaluated", cell)
		}
		if back := strings.TrimPrefix(cell, "'"); back != strings.ReplaceAll(text, "\r\n", "\n") {
			t.Errorf("%q comes back as %q", text, back)
		}
	}
}

// numbers is a list of n items, down from n, with pages of at most a few.
func numbers(n int64, fail int64) func(context.Context, int64, int) ([]int64, int64, error) {
	return func(_ context.Context, below int64, limit int) (page []int64, next int64, err error) {
		for i := min(below-1, n); i > 0 && len(page) < min(limit, 7); i-- {
			if i == fail {
				return nil, 0, errors.New("the database is away")
			}
			page = append(page, i)
		}
		if len(page) > 0 && page[len(page)-1] > 1 {
			next = page[len(page)-1]
		}
		return page, next, nil
	}
}

// exports serves the list of numbers.
func exports(t *testing.T, n, fail int64) *httptest.Server {
	t.Helper()
	router := NewRouter(Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	router.Get("/numbers", Handle(func(w http.ResponseWriter, r *http.Request) error {
		return WriteList(w, r, numbers(n, fail), func(i int64) (item, error) { return item{Number: i}, nil })
	}, "limit", "cursor"))
	server := httptest.NewServer(router)
	t.Cleanup(server.Close)
	return server
}

func TestListAsPagesAndAsCSV(t *testing.T) {
	server := exports(t, 50, 0)
	get := func(method, query, accept string) (status int, header http.Header, body string, err error) {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/numbers"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", accept)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return response.StatusCode, response.Header, string(text), err
	}
	status, header, body, err := get("GET", "", CSV)
	lines := strings.Split(strings.TrimSuffix(body, "\r\n"), "\r\n")
	if err != nil || status != 200 || len(lines) != 51 || lines[1] != ",,,false,,50," || lines[50] != ",,,false,,1," {
		t.Errorf("%d %v %d lines: %.200q", status, err, len(lines), body)
	}
	want := http.Header{"Content-Type": {"text/csv; charset=utf-8"}, "Vary": {"Accept"}, "Cache-Control": {"no-store"}}
	for name, value := range want {
		if !reflect.DeepEqual(header[name], value) {
			t.Errorf("%s: %q", name, header[name])
		}
	}
	if status, header, body, err := get("HEAD", "", CSV); status != 200 || body != "" || err != nil ||
		header.Get("Content-Type") != "text/csv; charset=utf-8" {
		t.Errorf("HEAD: %d %q %v", status, body, err)
	}
	for query, field := range map[string]string{"?limit=5": "limit", "?cursor=x": "cursor", "?colour=red": "colour"} {
		if status, _, body, _ := get("GET", query, CSV); status != 400 || !strings.Contains(body, `"`+field+`"`) {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
	if status, _, body, _ := get("GET", "", "text/html"); status != 406 || !strings.Contains(body, CodeNotAcceptable) {
		t.Errorf("%d %s", status, body)
	}
	if status, header, body, _ := get("GET", "?limit=2", ""); status != 200 || !strings.Contains(body, `"next_cursor"`) ||
		header.Get("Content-Type") != JSON || header.Get("Vary") != "Accept" {
		t.Errorf("%d %s", status, body)
	}

	// What fails before the first line is a problem; what fails later breaks the answer off.
	server = exports(t, 50, 50)
	if status, _, body, err := get("GET", "", CSV); status != 500 || err != nil || !strings.Contains(body, CodeInternal) {
		t.Errorf("%d %s %v", status, body, err)
	}
	server = exports(t, 50, 20)
	if status, _, body, err := get("GET", "", CSV); status != 200 || err == nil || !strings.Contains(body, ",50,") {
		t.Errorf("%d %q: the client cannot tell that this is not whole", status, body)
	}
}
