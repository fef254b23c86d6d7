package currencies_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/currencies"
	"github.com/altyn-pay/altyn/platform/money"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// books is a service's own schema, with amounts.
var books = pg.Migrations{Name: "books", FS: fstest.MapFS{"00001_books.sql": {Data: []byte(`-- +goose Up
CREATE TABLE balances (currency text NOT NULL);
CREATE TABLE operations (currency text NOT NULL);
`)}}}

var tables = []string{"balances", "operations"}

// file is a table of currencies with further ones.
func file(t *testing.T, lines ...string) *money.Currencies {
	t.Helper()
	path := filepath.Join(t.TempDir(), "currencies")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := money.LoadCurrencies(path)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func use(t *testing.T, db *sqlx.DB, table, code string) {
	t.Helper()
	if _, err := db.Exec(`INSERT INTO `+table+` VALUES ($1)`, code); err != nil {
		t.Fatal(err)
	}
}

func TestAgree(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "currencies", books, currencies.Migrations()).Service
	for _, step := range []struct {
		about string
		used  string // from now on
		lines []string
		wants string // what the disagreement says; "" without one
	}{
		{about: "the first start", lines: []string{"XAA,2", "XBB,3"}},
		{about: "the next one", lines: []string{"XAA,2", "XBB,3"}},
		{about: "a new currency", lines: []string{"XAA,2", "XBB,3", "XCC,0"}},
		{about: "other digits, though it is not used yet: another instance may use it",
			lines: []string{"XAA,2", "XBB,4", "XCC,0"}, wants: "XBB has 4 digits here and 3 in the database"},
		{about: "one that was never used is gone", lines: []string{"XAA,2", "XCC,0"}},
		{about: "and comes back with other digits", lines: []string{"XAA,2", "XBB,4", "XCC,0"}},
		{about: "one that is used is gone", used: "XAA", lines: []string{"XBB,4", "XCC,0"},
			wants: "XAA is missing and used in the database"},
		{about: "all at once", lines: []string{"XAA,3", "XCC,1"},
			wants: "XAA has 3 digits here and 2 in the database; XCC has 1 digits here and 0 in the database"},
		{about: "without a file", wants: "XAA is missing and used in the database"},
		{about: "as it was", lines: []string{"XAA,2", "XCC,0"}},
	} {
		if step.used != "" {
			use(t, db, "operations", step.used)
		}
		err := currencies.Agree(t.Context(), db, file(t, step.lines...), tables...)
		var wrong currencies.Disagreement
		switch {
		case step.wants == "" && err != nil:
			t.Errorf("%s: %v", step.about, err)
		case step.wants != "" && (!errors.As(err, &wrong) || err.Error() != step.wants):
			t.Errorf("%s: %v, want %s", step.about, err, step.wants)
		}
	}
}

func TestAgreeOnADatabaseWithData(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "currencies", books)
	for table, codes := range map[string][]string{"balances": {"RUB", "XAA", "XAA"}, "operations": {"", "XBB"}} {
		for _, code := range codes {
			use(t, db.Owner, table, code)
		}
	}
	if err := pg.Migrate(t.Context(), db.Config, slog.New(slog.DiscardHandler), books,
		currencies.Migrations()); err != nil {
		t.Fatal(err)
	}
	err := currencies.Agree(t.Context(), db.Service, file(t, "XAA,2"), tables...)
	if want := "XBB is missing and used in the database"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	for range 2 { // the first start says what they are
		if err := currencies.Agree(t.Context(), db.Service, file(t, "XAA,2", "XBB,1"), tables...); err != nil {
			t.Error(err)
		}
	}
	if err := currencies.Agree(t.Context(), db.Service, file(t, "XAA,2", "XBB,2"), tables...); err == nil {
		t.Error("other digits are accepted")
	}
}

// Many instances start at once. With the same file all do; with two, those of one.
func TestAgreeAtOnce(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "currencies", books, currencies.Migrations()).Service
	same := file(t, "XAA,2", "XBB,3")
	start := func(of func(i int) *money.Currencies) *[2]atomic.Int64 {
		var agreed [2]atomic.Int64
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				err := currencies.Agree(t.Context(), db, of(i), tables...)
				if err == nil {
					agreed[i%2].Add(1)
				} else if !errors.As(err, new(currencies.Disagreement)) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		return &agreed
	}
	agreed := start(func(int) *money.Currencies { return same })
	if n := agreed[0].Load() + agreed[1].Load(); n != 8 {
		t.Errorf("%d of 8 have started", n)
	}
	for round := range 5 {
		files := [2]*money.Currencies{}
		for i := range files {
			files[i] = file(t, "XAA,2", "XBB,3", fmt.Sprintf("XR%d,%d", round, i))
		}
		agreed := start(func(i int) *money.Currencies { return files[i%2] })
		if a, b := agreed[0].Load(), agreed[1].Load(); a*b != 0 || a+b != 4 {
			t.Errorf("round %d: %d with the one file have started, and %d with the other", round, a, b)
		}
		use(t, db, "balances", fmt.Sprintf("XR%d", round))
		if round == 0 { // and from now on it must be there
			if err := currencies.Agree(t.Context(), db, same, tables...); err == nil {
				t.Error("a used one may be missing")
			}
		}
		if _, err := db.Exec(`DELETE FROM balances`); err != nil {
			t.Fatal(err)
		}
		// All forget it at once.
		forgot := start(func(int) *money.Currencies { return same })
		if n := forgot[0].Load() + forgot[1].Load(); n != 8 {
			t.Errorf("round %d: %d of 8 have forgotten it", round, n)
		}
	}
}
