// Package reconcile is what orders and payments tell each other's operators about orders, so that both can be compared
// without a shared database: digests over many orders, and the orders where digests differ.
//
// Both go through the orders by ID, the one thing that the two services have in common: their clocks differ, and so do
// the hours in which they have the same order. A page is a range of IDs, divided into 256 buckets by the last byte.
package reconcile

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

const (
	// MaxRows is how many orders the digests of one page are over at most.
	MaxRows = 50_000
	// MaxIDs is how many orders one call may name.
	MaxIDs = 100
)

// Order is an order as one of the services knows it. Amounts are in minor units.
type Order struct {
	ID        uuid.UUID `db:"id" json:"id" swaggertype:"string" format:"uuid"`
	AccountID uuid.UUID `db:"account_id" json:"account_id" swaggertype:"string" format:"uuid"`
	Tenant    string    `db:"tenant" json:"tenant" example:"default"`
	Currency  string    `db:"currency" json:"currency" example:"RUB"`
	// in minor units, as the others
	Amount   int64 `db:"amount" json:"amount_minor" example:"250000"`
	Captured int64 `db:"captured" json:"captured_minor" example:"250000"`
	Refunded int64 `db:"refunded" json:"refunded_minor" example:"0"`
	// of the payment; of an order, the newest that it has seen
	Version int64 `db:"version" json:"version" example:"1"`
	// that of the order; of a payment, the one that its order has then
	Status string `db:"status" json:"status" enums:"pending,authorized,paid,failed,cancelling,cancelled"`
	// why it has failed or what it waits for, as a code
	Reason    string        `db:"reason" json:"reason,omitempty" validate:"optional" example:"insufficient_funds"`
	UpdatedAt contract.Time `db:"updated_at" json:"updated_at" format:"date-time" example:"2026-01-02T15:04:05.123456Z"`
} // @name ReconciledOrder

// Same reports whether the services agree about an order.
func (o Order) Same(other Order) bool {
	o.UpdatedAt = other.UpdatedAt
	return o == other
}

// Digest is about the orders of a bucket with the same status and currency. Sums are in minor units.
type Digest struct {
	Bucket   int    `db:"bucket" json:"bucket" example:"17"` // the last byte of their IDs
	Status   string `db:"status" json:"status" example:"paid"`
	Currency string `db:"currency" json:"currency" example:"RUB"`
	Count    int64  `db:"n" json:"count" example:"3"`
	Amount   string `db:"amount" json:"amount_minor" example:"250000"`
	Captured string `db:"captured" json:"captured_minor" example:"250000"`
	Refunded string `db:"refunded" json:"refunded_minor" example:"0"`
	// over everything that both services know of each order; it finds accidents and is no proof against an attacker
	Hash string `db:"hash" json:"hash" example:"-4821563890216547"`
} // @name Digest

// Page is the digests of a range of IDs.
type Page struct {
	// the last ID of the range; it is the one that was asked for when there are not too many orders up to it
	To    uuid.UUID `json:"to" swaggertype:"string" format:"uuid"`
	Items []Digest  `json:"items"`
} // @name DigestPage

// Orders are some orders, and what the time is for the service that knows them.
type Orders struct {
	Now   contract.Time `json:"now" format:"date-time" example:"2026-01-02T15:04:05.123456Z"`
	Items []Order       `json:"items"`
} // @name ReconciledOrders

// Source reads a service's orders. View is a SELECT of the columns of Order; it must find orders by their IDs.
type Source struct {
	DB   *sqlx.DB
	View string
}

// in runs read in a transaction that sees one moment.
func (s Source) in(ctx context.Context, read func(tx *sqlx.Tx) error) error {
	tx, err := s.DB.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	return read(tx)
}

// Digests returns the digests of the orders after an ID, up to and with another one or as many as a page may have.
func (s Source) Digests(ctx context.Context, after, to uuid.UUID) (page Page, err error) {
	err = s.in(ctx, func(tx *sqlx.Tx) error {
		var last []uuid.UUID
		if err := tx.SelectContext(ctx, &last, `
			SELECT id FROM (`+s.View+`) o WHERE id > $1 AND id <= $2 ORDER BY id OFFSET $3 LIMIT 1`,
			after, to, MaxRows-1); err != nil {
			return err
		}
		if page = (Page{To: to, Items: []Digest{}}); len(last) > 0 {
			page.To = last[0]
		}
		return tx.SelectContext(ctx, &page.Items, `
			SELECT get_byte(uuid_send(id), 15) AS bucket, status, currency, count(*) AS n, sum(amount)::text AS amount,
				sum(captured)::text AS captured, sum(refunded)::text AS refunded,
				bit_xor(('x' || left(md5(concat_ws(' ', id, account_id, tenant, currency, amount, captured, refunded, version,
					status, reason)), 16))::bit(64)::bigint)::text AS hash
			FROM (`+s.View+`) o WHERE id > $1 AND id <= $2 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`, after, page.To)
	})
	if err != nil {
		return Page{}, fmt.Errorf("read digests: %w", err)
	}
	return page, nil
}

// Range returns the orders after an ID, up to and with another one, but no more than a page may have: those of a
// bucket, or all where it is negative.
func (s Source) Range(ctx context.Context, after, to uuid.UUID, bucket int) (Orders, error) {
	return s.orders(ctx, `id > $1 AND id <= $2 AND $3::bigint IN (-1, get_byte(uuid_send(id), 15)) ORDER BY id LIMIT $4`,
		after, to, max(bucket, -1), MaxRows)
}

// Named returns those orders that there are.
func (s Source) Named(ctx context.Context, ids []uuid.UUID) (Orders, error) {
	return s.orders(ctx, `id = ANY($1::uuid[]) ORDER BY id`, pg.UUIDs(ids))
}

func (s Source) orders(ctx context.Context, condition string, args ...any) (list Orders, err error) {
	err = s.in(ctx, func(tx *sqlx.Tx) error {
		var now time.Time
		list.Items = []Order{}
		if err := tx.SelectContext(ctx, &list.Items, `SELECT * FROM (`+s.View+`) o WHERE `+condition, args...); err != nil {
			return err
		}
		err := tx.GetContext(ctx, &now, `SELECT clock_timestamp()`)
		list.Now = contract.Time(now)
		return err
	})
	if err != nil {
		return Orders{}, fmt.Errorf("read orders: %w", err)
	}
	return list, nil
}
