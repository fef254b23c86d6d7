package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// Distribute has Citus spread each table that has a column named lane over the nodes, by that column and co-located. It
// works as their owner. Tables that are distributed already stay as they are, so it may be called again after a
// migration or an interruption. It tells progress of each table. A table is locked while its rows are moved: nothing
// may run on the database meanwhile, and what runs learns where the lanes are when it connects.
func Distribute(ctx context.Context, cfg Config, shards int, progress func(done, all int, table string)) error {
	db, err := OpenOwner(cfg)
	if err != nil {
		return err
	}
	defer db.Close()
	var citus bool
	if err := db.GetContext(ctx, &citus, `SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')`); err != nil {
		return fmt.Errorf("postgres: distribute: %w", err)
	}
	if !citus {
		return errors.New("postgres: the database has no extension citus: a superuser creates it, and adds the nodes")
	}
	var tables []struct {
		Name        string `db:"name"`
		Distributed bool   `db:"distributed"`
	}
	if err := db.SelectContext(ctx, &tables, `
		SELECT c.relname AS name, EXISTS (SELECT FROM pg_dist_partition p WHERE p.logicalrelid = c.oid) AS distributed
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attname = 'lane' AND NOT attisdropped
			AND pg_get_userbyid(c.relowner) = current_user
		ORDER BY distributed DESC, name`); err != nil {
		return fmt.Errorf("postgres: find tables: %w", err)
	}
	for i, t := range tables {
		if !t.Distributed {
			with := tables[0].Name
			if i == 0 {
				with = "none"
			}
			if err := distribute(ctx, db, t.Name, with, shards); err != nil {
				return fmt.Errorf("postgres: distribute %s: %w", t.Name, err)
			}
		}
		progress(i+1, len(tables), t.Name)
	}
	return nil
}

// distribute distributes a table like another one, or like "none".
func distribute(ctx context.Context, db *sqlx.DB, table, with string, shards int) error {
	err := InTx(ctx, db, func(tx *sqlx.Tx) error {
		// The triggers look at nothing but the row, so they do as well on a shard.
		if _, err := tx.ExecContext(ctx, `
			SELECT set_config('citus.enable_unsafe_triggers', 'on', true), set_config('citus.shard_count', $1, true)`,
			fmt.Sprint(shards)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `SELECT create_distributed_table($1, 'lane', colocate_with => $2)`, table, with)
		return err
	})
	if err != nil {
		return err
	}
	// The rows are on the nodes now; this node's copies of them are hidden.
	_, err = db.ExecContext(ctx, `SELECT truncate_local_data_after_distributing_table($1)`, table)
	return err
}
