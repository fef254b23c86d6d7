package postgrestest

import (
	"fmt"
	"slices"
	"testing"
	"testing/fstest"

	pg "github.com/altyn-pay/altyn/platform/postgres"
)

func TestMain(m *testing.M) { Main(m) }

func migrations(name, table string) pg.Migrations {
	return pg.Migrations{Name: name, FS: fstest.MapFS{
		"00001_" + table + ".sql": {Data: []byte("-- +goose Up\nCREATE TABLE " + table + " (n int PRIMARY KEY);\n")},
	}}
}

func TestDatabase(t *testing.T) {
	db := Database(t, "orders", migrations("orders", "things"), migrations("outbox", "messages"))
	for _, table := range []string{"things", "messages"} {
		if _, err := db.Service.ExecContext(t.Context(), `INSERT INTO `+table+` VALUES (1)`); err != nil {
			t.Error(err)
		}
	}
	if _, err := db.Service.ExecContext(t.Context(), `DROP TABLE things`); err == nil {
		t.Error("the service's role drops tables")
	}
	if _, err := db.Service.ExecContext(t.Context(), `CREATE TEMPORARY TABLE mine (n int)`); err == nil {
		t.Error("the service's role makes temporary tables")
	}
	if _, err := db.Owner.ExecContext(t.Context(), `DROP TABLE things`); err != nil {
		t.Error(err)
	}
	if err := pg.CheckSchema(t.Context(), db.Service, migrations("orders", "things"),
		migrations("outbox", "messages")); err != nil {
		t.Error(err)
	}
}

// Tests at once, some of which are the first to want their template, share nothing and leave nothing.
func TestDatabasesInParallel(t *testing.T) {
	names := make(chan string, 12)
	t.Run("databases", func(t *testing.T) {
		for i := range cap(names) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				db := Database(t, "payments", migrations("payments", fmt.Sprintf("t%d", i%3)))
				names <- db.Config.Database
				if _, err := db.Service.ExecContext(t.Context(), fmt.Sprintf(`INSERT INTO t%d VALUES (1)`, i%3)); err != nil {
					t.Error(err)
				}
			})
		}
	})
	close(names)
	var used []string
	for name := range names {
		used = append(used, name)
	}
	slices.Sort(used)
	if len(slices.Compact(used)) != cap(names) {
		t.Errorf("databases %v", used)
	}
	admin, err := administrator()
	if err != nil {
		t.Fatal(err)
	}
	var left int
	if err := admin.GetContext(t.Context(), &left,
		`SELECT count(*) FROM pg_database WHERE datname LIKE 'payments\_%'`); err != nil {
		t.Fatal(err)
	}
	if left != 0 {
		t.Errorf("%d databases are left", left)
	}
}

func TestChecksum(t *testing.T) {
	sum := func(sets ...pg.Migrations) string {
		t.Helper()
		sum, err := checksum(sets)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	a, b := migrations("a", "t"), migrations("b", "t")
	sums := []string{sum(), sum(a), sum(b), sum(a, b), sum(b, a), sum(migrations("a", "u"))}
	if sum(a, b) != sums[3] {
		t.Error("it is not stable")
	}
	slices.Sort(sums)
	if len(slices.Compact(sums)) != 6 {
		t.Errorf("sums collide: %v", sums)
	}
}
