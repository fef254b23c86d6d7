package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/stage"
)

// Archived is a table whose old rows are moved to the archive: the table of the same name in the schema archive, which
// inherits from it. So each statement that reads, changes or locks rows of the table finds those of the archive, too.
// New rows go to the table alone.
type Archived struct {
	Table string
	// Final is the condition for a row that is moved: it came to its end before the time $3.
	Final string
	// Key is a column of which no value comes again, if rows are inserted ON CONFLICT DO NOTHING: no index sees a conflict
	// with a row of the archive, so a trigger leaves out the row that is inserted. Whoever inserts into a table without
	// Key has looked for the row before, and has seen to it that nobody else inserts it.
	Key string
}

// archivePages is how many pages of a table, of 8 KiB, are looked at in one transaction.
const archivePages = 64

// Archiving says how rows are moved.
type Archiving struct {
	Before     time.Time
	Load       int    // the share of the time for which to work, in percent
	Tablespace string // of archives that do not exist yet; "" is the default one
	Progress   func(table string, done, all int64)
}

// Archive moves rows to the archive, as the owner of the tables, while they are in use: some pages of a table in each
// transaction. It leaves out rows that somebody else has locked. It makes what the archive lacks: its tables, and the
// indexes and triggers that their originals have. It returns how many rows it has moved.
func Archive(ctx context.Context, owner *sqlx.DB, tables []Archived, a Archiving) (moved int64, err error) {
	var citus bool
	if err := owner.GetContext(ctx, &citus, `
		SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')`); err != nil {
		return 0, fmt.Errorf("postgres: archive: %w", err)
	}
	if citus {
		return 0, errors.New("postgres: archive: Citus distributes no tables that others inherit from")
	}
	for _, t := range tables {
		if err := t.prepare(ctx, owner, a.Tablespace); err != nil {
			return moved, fmt.Errorf("postgres: archive of %s: %w", t.Table, err)
		}
		n, err := t.move(ctx, owner, a)
		if moved += n; err != nil {
			return moved, fmt.Errorf("postgres: archive of %s: %w", t.Table, err)
		}
	}
	return moved, nil
}

// LockArchive keeps rows from being moved until the transaction ends. A statement that has waited for a row which is
// moved meanwhile does not find it.
func LockArchive(ctx context.Context, tx *sqlx.Tx) error {
	_, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext('altyn archive'))`)
	return err
}

// move moves the rows of a table.
func (t Archived) move(ctx context.Context, owner *sqlx.DB, a Archiving) (moved int64, err error) {
	var pages int64
	if err := owner.GetContext(ctx, &pages, `
		SELECT pg_relation_size($1::regclass) / current_setting('block_size')::bigint`, "public."+t.Table); err != nil {
		return 0, err
	}
	for first := int64(0); first < pages; first += archivePages {
		began := time.Now()
		var n int64
		if err := InTx(ctx, owner, func(tx *sqlx.Tx) error {
			if err := LockArchive(ctx, tx); err != nil {
				return err
			}
			result, err := tx.ExecContext(ctx, fmt.Sprintf(`
				WITH moved AS (
					DELETE FROM ONLY public.%[1]s WHERE ctid = ANY(ARRAY(
						SELECT ctid FROM ONLY public.%[1]s WHERE ctid >= $1::tid AND ctid < $2::tid AND %[2]s FOR UPDATE SKIP LOCKED
					)) RETURNING *
				) INSERT INTO archive.%[1]s SELECT * FROM moved`, t.Table, t.Final),
				fmt.Sprintf("(%d,0)", first), fmt.Sprintf("(%d,0)", first+archivePages), a.Before)
			if err != nil {
				return err
			}
			n, err = result.RowsAffected()
			return err
		}); err != nil {
			return moved, err
		}
		moved += n
		a.Progress(t.Table, min(first+archivePages, pages), pages)
		if rest := time.Since(began) * time.Duration(100-a.Load) / time.Duration(a.Load); !stage.Wait(ctx, rest) {
			return moved, ctx.Err()
		}
	}
	return moved, nil
}

// prepare makes the table's archive, and what it lacks.
func (t Archived) prepare(ctx context.Context, owner *sqlx.DB, tablespace string) error {
	table, archive := "public."+t.Table, "archive."+t.Table
	conn, err := owner.Connx(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Of the session: it is for the indexes, too.
	if _, err := conn.ExecContext(ctx, `SELECT set_config('default_tablespace', $1, false)`, tablespace); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, fmt.Sprintf(`
		CREATE SCHEMA IF NOT EXISTS archive;
		CREATE TABLE IF NOT EXISTS %s () INHERITS (%s) WITH (fillfactor = 100)`, archive, table)); err != nil {
		return err
	}
	var heir bool
	if err := conn.GetContext(ctx, &heir, `
		SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = $2::regclass AND inhparent = $1::regclass)`,
		table, archive); err != nil {
		return err
	}
	if !heir {
		return fmt.Errorf("%s does not inherit from %s", archive, table)
	}
	var statements []string
	if err := conn.SelectContext(ctx, &statements, `
		SELECT 'DROP INDEX CONCURRENTLY ' || indexrelid::regclass FROM pg_index -- that an interrupted run has left
		WHERE indrelid = to_regclass($2) AND NOT indisvalid
		UNION ALL
		SELECT replace(pg_get_triggerdef(oid), ' ON ' || $1::text || ' ', ' ON ' || $2::text || ' ') FROM pg_trigger t
		WHERE tgrelid = to_regclass($1) AND NOT tgisinternal AND tgname <> 'known'
			AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass($2) AND tgname = t.tgname)
		UNION ALL
		SELECT 'CREATE ' || CASE WHEN indisunique THEN 'UNIQUE ' ELSE '' END || 'INDEX CONCURRENTLY ON ' || $2::text || form
		FROM pg_index, substring(pg_get_indexdef(indexrelid) FROM ' USING .*') AS form
		WHERE indrelid = to_regclass($1) AND indisvalid AND form NOT IN (
			SELECT substring(pg_get_indexdef(indexrelid) FROM ' USING .*') FROM pg_index
			WHERE indrelid = to_regclass($2) AND indisvalid)`,
		table, archive); err != nil {
		return err
	}
	if t.Key != "" {
		statements = append(statements, fmt.Sprintf(`
			CREATE OR REPLACE FUNCTION archive.known_%[1]s() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN
				IF EXISTS (SELECT FROM public.%[1]s WHERE %[2]s = NEW.%[2]s) THEN RETURN NULL; END IF;
				RETURN NEW;
			END $$;
			CREATE OR REPLACE TRIGGER known BEFORE INSERT ON public.%[1]s FOR EACH ROW EXECUTE FUNCTION archive.known_%[1]s()`,
			t.Table, t.Key))
	}
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// Pages is how many pages a table has, or its archive if that has more: by their numbers the rows of both are read
// together.
func Pages(ctx context.Context, db sqlx.QueryerContext, table string) (n int64, err error) {
	if err := sqlx.GetContext(ctx, db, &n, `
		SELECT max(pg_relation_size(oid)) / current_setting('block_size')::bigint FROM (
			SELECT $1::regclass AS oid UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = $1::regclass
		) t`, table); err != nil {
		return 0, fmt.Errorf("size of %s: %w", table, err)
	}
	return n, nil
}

// PagesIn is Pages of the shard that has these lanes, where the table is distributed by lane: of one of those that
// Shards returns.
func PagesIn(ctx context.Context, db sqlx.QueryerContext, table string, lanes Lanes) (n int64, err error) {
	if n, err = Pages(ctx, db, table); err != nil || n > 0 {
		return n, err
	}
	if err := sqlx.GetContext(ctx, db, &n, `
		SELECT coalesce(max(n), 0) FROM (
			SELECT pg_relation_size(tableoid) / current_setting('block_size')::bigint AS n FROM `+table+` t
			WHERE `+InLanes("lane", "$1")+` LIMIT 1
		) shard`, lanes); err != nil {
		return 0, fmt.Errorf("size of %s: %w", table, err)
	}
	return n, nil
}
