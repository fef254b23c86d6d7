package postgres

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/chain"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// linkerLock is the key of the advisory lock of whoever adds links.
const linkerLock = 0x616c7403

// MaxLinked is how many batches become one link.
const MaxLinked = 100

// Link makes links of what batches have written, and returns of how many batches. It does nothing while somebody else
// links. If the last published head is older than every, it publishes the present one, as the message that publish
// makes of it.
func (s *Store) Link(ctx context.Context, every time.Duration,
	publish func(contract.LedgerHead) (outbox.Message, error)) (batches int, published bool, err error) {
	err = pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		batches, published = 0, false
		var mine bool
		if err := tx.GetContext(ctx, &mine, `SELECT pg_try_advisory_xact_lock($1)`, linkerLock); err != nil || !mine {
			return err
		}
		head, err := readHead(ctx, tx)
		if err != nil {
			return err
		}
		var items []byte
		if items, batches, err = takeUnlinked(ctx, tx); err != nil {
			return err
		}
		if batches > 0 {
			if err := head.add(ctx, tx, 0, items); err != nil {
				return err
			}
		}
		// Where the clock was set back, the last head may be of the future.
		since := head.at.Sub(head.publishedAt.Time)
		if head.number <= head.published || head.publishedAt.Valid && since >= 0 && since < every {
			return nil
		}
		published = true
		return head.publish(ctx, tx, publish)
	})
	if err != nil {
		return 0, false, fmt.Errorf("link: %w", err)
	}
	return batches, published, nil
}

// head is the end of the chain.
type head struct {
	number      int64
	hash        []byte
	at          time.Time // now, to the microsecond
	published   int64     // the number of the last head that was published
	publishedAt sql.NullTime
}

// readHead reads the head in a statement of its own, after the one that took the linker's lock. The statement has a
// parameter so that it is prepared once per session, not planned anew each second.
func readHead(ctx context.Context, tx *sqlx.Tx) (h head, err error) {
	err = tx.QueryRowxContext(ctx, `
		SELECT coalesce(c.number, 0), coalesce(c.hash, ''), clock_timestamp(), coalesce(h.number, 0), h.at
		FROM (SELECT $1::bigint) one LEFT JOIN LATERAL (SELECT number, hash FROM chain ORDER BY number DESC LIMIT 1) c ON true
			LEFT JOIN LATERAL (SELECT number, at FROM chain_heads ORDER BY number DESC LIMIT 1) h ON true`, 1).
		Scan(&h.number, &h.hash, &h.at, &h.published, &h.publishedAt)
	h.at = h.at.UTC()
	return h, err
}

// takeUnlinked takes batches that are not linked yet, MaxLinked of each shard.
func takeUnlinked(ctx context.Context, tx *sqlx.Tx) (items []byte, batches int, err error) {
	rows, err := tx.QueryContext(ctx, `
		DELETE FROM chain_unlinked WHERE ctid = ANY(ARRAY(
			SELECT ctid FROM chain_unlinked WHERE `+pg.InLanes("lane", "$2")+` LIMIT $1)) AND `+pg.InLanes("lane", "$2")+`
		RETURNING timestamptz_send(at), items`, MaxLinked, pg.AllLanes())
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for ; rows.Next(); batches++ {
		var at, batch sql.RawBytes
		if err := rows.Scan(&at, &batch); err != nil {
			return nil, 0, err
		}
		items = chain.AppendBatch(items, chain.Time(integer(at)), batch)
	}
	return items, batches, rows.Err()
}

// add adds a link.
func (h *head) add(ctx context.Context, tx *sqlx.Tx, sealing int64, items []byte) error {
	link := chain.Link{Number: h.number + 1, At: chain.TimeOf(h.at), Sealing: sealing, Items: items}
	hash := link.Hash(h.hash)
	h.number, h.hash = link.Number, hash[:]
	return pg.ExecExactly(ctx, tx, "add a link", 1, `
		INSERT INTO chain (number, at, sealing, items, hash) VALUES ($1, $2, $3, $4, $5)`,
		h.number, h.at, sealing, items, h.hash)
}

// publish publishes the head.
func (h *head) publish(ctx context.Context, tx *sqlx.Tx,
	message func(contract.LedgerHead) (outbox.Message, error)) error {
	m, err := message(contract.LedgerHead{Number: h.number, Hash: hex.EncodeToString(h.hash), At: contract.Time(h.at)})
	if err != nil {
		return err
	}
	if err := pg.ExecExactly(ctx, tx, "publish the head", 1,
		`INSERT INTO chain_heads (number, at) VALUES ($1, $2)`, h.number, h.at); err != nil {
		return err
	}
	return outbox.Append(ctx, tx, m)
}
