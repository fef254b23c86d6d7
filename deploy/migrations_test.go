package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// baseline is the newest migration of each set from the time before programs of two versions had to share a schema.
var baseline = map[string]int{
	"actions": 1, "audit": 2, "currencies": 1, "idempotency": 1, "inbox": 3, "orders": 21, "outbox": 5, "payments": 23,
}

// narrowing are statements after which a program that was written before may fail: it reads what is gone, or writes
// what is refused.
var narrowing = regexp.MustCompile(`(?i)\b(` +
	`DROP\s+(TABLE|COLUMN|VIEW|MATERIALIZED|SCHEMA|TYPE|DOMAIN|FUNCTION|PROCEDURE|SEQUENCE|DEFAULT|EXPRESSION|IDENTITY)` +
	`|ALTER\s+TABLE\s+(ONLY\s+)?\S+(\s*,)?\s+DROP\s+"?[a-z_]+"?\s*[;,]` + // the word COLUMN may be left out
	`|RENAME|SET\s+NOT\s+NULL|SET\s+SCHEMA|TRUNCATE|REVOKE|CREATE\s+UNIQUE\s+INDEX` +
	`|ADD\s+(PRIMARY|UNIQUE|FOREIGN|EXCLUDE)` +
	`|ALTER\s+(COLUMN\s+)?\S+\s+(SET\s+DATA\s+)?TYPE` +
	`|ADD\s+(COLUMN\s+)?(IF\s+NOT\s+EXISTS\s+)?[a-z_]+\s+[a-z]+(\([^)]*\))?\s+NOT\s+NULL\s*[,;])`) // and no default

// contraction is the statement by which a migration says that it takes something away, and which programs may go on.
var contraction = regexp.MustCompile(`(?m)^COMMENT ON TABLE ([a-z]+)_migrations IS 'programs from (\d+)';$`)

// wrongMigration returns why the programs of the version before could not go on after a migration; "" if they can.
func wrongMigration(set string, number int, text string) string {
	up, _, _ := strings.Cut(text, "-- +goose Down")
	code := regexp.MustCompile(`--[^\n]*`).ReplaceAllString(up, "")
	// A table of this very migration has no programs yet.
	for _, created := range regexp.MustCompile(`(?i)CREATE\s+TABLE\s+(\w+)`).FindAllStringSubmatch(code, -1) {
		own := regexp.MustCompile(`(?i)(CREATE\s+UNIQUE\s+INDEX\s+\w+\s+ON|REVOKE[^;]*\bON)\s+` + created[1] +
			`\b[^;]*;`)
		code = own.ReplaceAllString(code, "")
	}
	declared := contraction.FindStringSubmatch(up)
	narrows := narrowing.FindString(code)
	if narrows == "" && regexp.MustCompile(`(?i)ADD\s+(CONSTRAINT|CHECK)`).MatchString(code) &&
		!regexp.MustCompile(`(?i)DROP\s+CONSTRAINT`).MatchString(code) {
		narrows = "ADD CONSTRAINT in place of none" // in place of another one it may be wider
	}
	switch {
	case declared == nil && narrows != "":
		return "does not only expand: " + strings.Join(strings.Fields(narrows), " ")
	case declared == nil:
		return ""
	case declared[1] != set:
		return "speaks of the programs of set " + declared[1]
	}
	if oldest, err := strconv.Atoi(declared[2]); err != nil || oldest >= number {
		return fmt.Sprintf("must let programs go on that do not know it: from %d at most", number-1)
	}
	return ""
}

// While a service is upgraded, and after going back, programs of two versions share a schema. So a migration only adds;
// what takes something away comes a version later, and says which programs are too old for it.
func TestMigrationsOnlyExpand(t *testing.T) {
	platform, err := filepath.Glob("../platform/*/migrations/*.sql")
	services, err2 := filepath.Glob("../*/internal/postgres/migrations/*.sql")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	seen := map[string]bool{}
	for _, file := range append(platform, services...) {
		set := strings.TrimSuffix(strings.TrimPrefix(filepath.Dir(filepath.Dir(file)), "../"), "/internal/postgres")
		set = strings.TrimPrefix(set, "platform/")
		digits, _, _ := strings.Cut(filepath.Base(file), "_")
		number, err := strconv.Atoi(digits)
		text, readErr := os.ReadFile(file)
		if err != nil || readErr != nil {
			t.Fatal(file, err, readErr)
		}
		if seen[set] = true; number <= baseline[set] {
			continue
		}
		if wrong := wrongMigration(set, number, string(text)); wrong != "" {
			t.Errorf("%s %s (CONTRIBUTING.md says how to add a migration)", file, wrong)
		}
	}
	for set := range baseline {
		if !seen[set] {
			t.Errorf("set %s has no migrations", set)
		}
	}
}

// What the rule lets pass, and what it does not.
func TestNarrowingMigrationsAreFound(t *testing.T) {
	const contracts = "COMMENT ON TABLE orders_migrations IS 'programs from %d';\n"
	for text, wrong := range map[string]bool{
		"CREATE TABLE a (n int NOT NULL, UNIQUE (n));\nCREATE UNIQUE INDEX a_n ON a (n);":             false,
		"CREATE UNIQUE INDEX orders_n ON orders (n);":                                                 true,
		"ALTER TABLE orders ADD note text NOT NULL DEFAULT '';":                                       false,
		"ALTER TABLE orders ADD note text NOT NULL;":                                                  true,
		"ALTER TABLE orders ADD COLUMN note text NOT NULL, ADD b int;":                                true,
		"ALTER TABLE orders ALTER n DROP NOT NULL;":                                                   false,
		"ALTER TABLE orders ALTER n SET NOT NULL;":                                                    true,
		"ALTER TABLE orders ALTER COLUMN n TYPE bigint;":                                              true,
		"ALTER TABLE orders DROP note;":                                                               true,
		"ALTER TABLE orders DROP COLUMN IF EXISTS note;":                                              true,
		"ALTER TABLE orders RENAME note TO remark;":                                                   true,
		"ALTER DOMAIN s DROP CONSTRAINT s_check; ALTER DOMAIN s ADD CONSTRAINT s_check CHECK (true);": false,
		"ALTER DOMAIN s ADD CONSTRAINT s_check CHECK (value > 0) NOT VALID;":                          true,
		"DROP INDEX CONCURRENTLY orders_n;":                                                           false,
		"-- Drop table: never.\nSELECT 1;\n\n-- +goose Down\nDROP TABLE orders;":                      false,
		"DROP TABLE old;": true,
		fmt.Sprintf(contracts, 22) + "DROP TABLE old;":                             false,
		fmt.Sprintf(contracts, 23) + "DROP TABLE old;":                             true, // too late for the version before
		"COMMENT ON TABLE inbox_migrations IS 'programs from 3';\nDROP TABLE old;": true,
	} {
		if got := wrongMigration("orders", 23, "-- +goose Up\n"+text); (got != "") != wrong {
			t.Errorf("%s: %q", text, got)
		}
	}
}
