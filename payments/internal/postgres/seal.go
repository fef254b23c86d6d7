package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/chain"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

const (
	// maxBefore is how many items the chain may have when rows from before it are sealed. They are kept in memory.
	maxBefore = 4_000_000
	// sealed is how many bytes of items become one link of a sealing, more or less.
	sealed = 1 << 20
)

// Seal adds to the chain the rows that a version of the service without a chain has written, and returns how many. No
// such version may still run: what it writes later would need another sealing. Seal may run beside the service, and
// again after it was interrupted. A row that the chain has and the database has not is an error. record writes down
// what is done, within the first transaction that does some of it.
func (s *Store) Seal(ctx context.Context, record func(context.Context, *sqlx.Tx, Sealing) error,
	progress func(done, all int)) (rows int64, err error) {
	lock, err := s.db.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return 0, fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = lock.Rollback() }()
	if _, err := lock.ExecContext(ctx, `SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
		return 0, fmt.Errorf("begin: %w", err)
	}
	var mine bool
	if err := lock.GetContext(ctx, &mine, `SELECT pg_try_advisory_xact_lock($1)`, sealerLock); err != nil {
		return 0, fmt.Errorf("lock: %w", err)
	}
	if !mine {
		return 0, errors.New("somebody else is sealing")
	}
	c := comparison{Verifying: Verifying{Progress: progress, Sealings: math.MaxInt64}, txs: []*sqlx.Tx{lock},
		shards: pg.Shards(s.db, 0)}
	if err := c.plan(ctx); err != nil {
		return 0, err
	}
	sealer := &sealer{ctx: ctx, store: s, record: record, known: make(map[chain.Key]int32),
		gone: make(map[chain.Key]chain.Item)}
	if err := lock.GetContext(ctx, &sealer.sealing.Number, `
		SELECT CASE WHEN last.n = 0 THEN 1
			WHEN EXISTS (SELECT FROM chain WHERE sealing = last.n AND items = '') THEN last.n + 1 ELSE last.n END
		FROM (SELECT coalesce(max(sealing), 0) AS n FROM chain) last`); err != nil {
		return 0, fmt.Errorf("look for sealings: %w", err)
	}
	// First without adding anything: nothing may be missing.
	for _, sealer.adds = range []bool{false, true} {
		clear(sealer.known)
		clear(sealer.gone)
		sealer.sealing.Items, sealer.rows = sealer.rows, 0
		if err := c.run(ctx, func(int) sink { return sealer }); err != nil {
			return sealer.rows, err
		}
		if err := sealer.finish(); err != nil {
			return sealer.rows, err
		}
	}
	return sealer.rows, nil
}

// sealerLock is the key of the advisory lock of whoever seals.
const sealerLock = 0x616c7404

// sealer is the sink that adds what the chain does not have. The chain is read before the tables: see plan.
type sealer struct {
	ctx     context.Context
	store   *Store
	sealing Sealing
	record  func(context.Context, *sqlx.Tx, Sealing) error // nil once it was called
	adds    bool
	known   map[chain.Key]int32 // items without their rows
	gone    map[chain.Key]chain.Item
	items   []byte // to be added
	rows    int64
	err     error
}

func (s *sealer) link(chain.Link) {}

func (s *sealer) add(i chain.Item) {
	switch {
	case i.Kind == chain.Balance || i.Kind == chain.Wait:
		return
	case len(s.known) > maxBefore:
		s.err = fmt.Errorf("the chain has more than %d items already", maxBefore)
		return
	}
	key := i.Key()
	if i.Gone {
		s.known[key]--
		s.gone[key] = i
	} else {
		s.known[key]++
	}
	if s.known[key] == 0 {
		delete(s.known, key)
	}
}

func (s *sealer) remove(i chain.Item, _ func() string) {
	if i.Kind == chain.Balance || i.Kind == chain.Wait || s.err != nil {
		return
	}
	key := i.Key()
	if s.known[key] > 0 {
		if s.known[key]--; s.known[key] == 0 {
			delete(s.known, key)
		}
		return
	}
	s.seal(i)
}

func (s *sealer) wrong(d Difference) {
	if d.Table == "chain" || d.Table == "chain_unlinked" {
		s.err = fmt.Errorf("%s %s %s", d.Table, d.ID, d.What)
	}
}

// seal adds a row.
func (s *sealer) seal(i chain.Item) {
	if s.rows++; !s.adds {
		return
	}
	i.Gone = false
	s.items = i.Append(chain.AppendBatch(s.items, i.At, nil))
	if len(s.items) >= sealed {
		s.flush()
	}
}

// flush adds a link.
func (s *sealer) flush() {
	if s.err != nil || s.ctx.Err() != nil {
		return
	}
	if s.err = pg.InTx(s.ctx, s.store.db, func(tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(s.ctx, `SELECT pg_advisory_xact_lock($1)`, linkerLock); err != nil {
			return err
		}
		head, err := readHead(s.ctx, tx)
		if err != nil {
			return err
		}
		if s.record != nil {
			if err := s.record(s.ctx, tx, s.sealing); err != nil {
				return err
			}
		}
		return head.add(s.ctx, tx, s.sealing.Number, s.items)
	}); s.err != nil {
		s.err = fmt.Errorf("seal: %w", s.err)
	}
	s.record = nil
	s.items = s.items[:0]
}

// finish adds what was changed before it was sealed, and the end of the sealing: a link without items.
func (s *sealer) finish() error {
	if s.err != nil {
		return s.err
	}
	for key, n := range s.known {
		if n > 0 {
			return errors.New("the chain has rows that the database has not; verify names them")
		}
		for ; n < 0; n++ {
			s.seal(s.gone[key])
		}
	}
	if len(s.items) > 0 {
		s.flush()
	}
	if s.adds && s.rows > 0 {
		s.flush()
	}
	return s.err
}
