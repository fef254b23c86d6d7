// Package postgres holds all SQL of orders. It decides nothing: packages placing and status load, decide and store.
package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/actions"
	"github.com/altyn-pay/altyn/platform/audit"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/currencies"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/watch"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations returns the schema of orders, in the order in which it is applied.
func Migrations() []pg.Migrations {
	return []pg.Migrations{
		outbox.Migrations(), idempotency.Migrations(), pg.Embedded("orders", files), currencies.Migrations(),
		actions.Migrations(), audit.Migrations(),
	}
}

// Archived are the tables whose old rows may be moved to the archive.
var Archived = []pg.Archived{
	{Table: "orders", Key: "id", Final: `status IN ('paid', 'failed', 'cancelled') AND updated_at < $3`},
	{Table: "order_history", Final: `at < $3`},
}

// ErrNotFound is returned for an order that is not there.
var ErrNotFound = errors.New("order not found")

// Store reads and writes the tables of orders.
type Store struct {
	db *sqlx.DB
}

// New returns a store over the service's database.
func New(db *sqlx.DB) *Store { return &Store{db} }

// InTx runs fn in one transaction; see pg.InTx of the platform.
func (s *Store) InTx(ctx context.Context, fn func(tx *sqlx.Tx) error) error {
	return pg.InTx(ctx, s.db, fn)
}

var orderColumns = pg.ColumnsOf[order.Order]()

func selectOrders(ctx context.Context, db sqlx.QueryerContext, query string, ids []uuid.UUID) (
	map[uuid.UUID]order.Order, error) {
	var rows []order.Order
	if err := sqlx.SelectContext(ctx, db, &rows, query, pg.UUIDs(ids)); err != nil {
		return nil, fmt.Errorf("read %d orders: %w", len(ids), err)
	}
	return byID(rows), nil
}

func byID(rows []order.Order) map[uuid.UUID]order.Order {
	orders := make(map[uuid.UUID]order.Order, len(rows))
	for _, o := range rows {
		orders[o.ID] = read(o)
	}
	return orders
}

// cancelled returns the reason and the note of a cancellation. Earlier versions stored the note as the reason.
func cancelled(reason, note string) (string, string) {
	return contract.ReasonCancelled, contract.NoteOf(reason, note)
}

// read completes an order that was read: its times are in UTC, whatever the session's time zone, and what earlier
// versions stored as the reason of a cancellation is its note.
func read(o order.Order) order.Order {
	if o.Status == order.Cancelling || o.Status == order.Cancelled {
		o.Reason, o.Note = cancelled(o.Reason, o.Note)
	}
	o.CreatedAt, o.UpdatedAt = o.CreatedAt.UTC(), o.UpdatedAt.UTC()
	if o.ExpiresAt != nil {
		at := o.ExpiresAt.UTC()
		o.ExpiresAt = &at
	}
	return o
}

// message is an event in the form of the outbox.
func message(e order.Event) outbox.Message {
	return outbox.Message{
		Lane: contract.Lane(e.AccountID), ID: e.ID, Type: e.Type, Topic: contract.TopicOrders, Key: e.AccountID.String(),
		Subject: e.OrderID.String(), Payload: e.Payload, Traceparent: e.Traceparent, Tenant: e.Tenant,
	}
}

// Announce stores events of orders in the caller's transaction. Wake the relay after the commit.
func (s *Store) Announce(ctx context.Context, tx *sqlx.Tx, events ...order.Event) error {
	messages := make([]outbox.Message, len(events))
	for i, e := range events {
		messages[i] = message(e)
	}
	return outbox.Append(ctx, tx, messages...)
}

// Placement is an order to be stored, with the event that tells of it.
type Placement struct {
	Order order.Order
	Event order.Event
}

// Placed is the order that the database has under a placement's ID.
type Placed struct {
	Order *order.Order
	// New reports that this placement stored it. Otherwise it was there before, and may be another request's: compare the
	// fingerprints.
	New bool
}

// Place stores orders with their events in one transaction, in the order given, and returns one result for each. When
// an ID is taken, neither the order nor its event is stored, so a placement may be repeated any number of times. After
// an error nothing was stored, unless pg.IsOutcomeUnknown(err).
func (s *Store) Place(ctx context.Context, placements []*Placement) ([]Placed, error) {
	// A second placement under the same ID repeats the first one.
	first := make([]*Placement, 0, len(placements))
	seen := make(map[uuid.UUID]bool, len(placements))
	for _, p := range placements {
		if !seen[p.Order.ID] {
			seen[p.Order.ID] = true
			first = append(first, p)
		}
	}
	var results []Placed
	tries := 0
	if err := pg.UntilKnown(ctx, func() error {
		tries++
		var taken []uuid.UUID
		err := pg.Retry(ctx, func() (err error) {
			taken, err = s.insertOrders(ctx, first)
			return err
		})
		if err != nil {
			return err
		}
		if results, err = s.results(ctx, placements, taken, tries > 1); err != nil {
			return pg.OutcomeUnknown(err) // the others are stored
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("place %d orders: %w", len(placements), err)
	}
	return results, nil
}

// placeOrders stores the orders whose IDs are free and, in place of %s, their events. As a single statement it is a
// transaction of its own. Rows are inserted, and seq is assigned, in the order in which the requests arrived.
var placeOrders = `
	WITH placed AS (
		INSERT INTO orders (` + orderColumns.String() + `) SELECT ` + orderColumns.Unnested() + `
		ON CONFLICT (id) DO NOTHING RETURNING id
	), announced AS (%s)
	SELECT id FROM unnest($1::uuid[]) AS id WHERE id NOT IN (SELECT id FROM placed)`

// insertOrders stores the orders whose IDs are free, and returns the other IDs.
func (s *Store) insertOrders(ctx context.Context, placements []*Placement) (taken []uuid.UUID, err error) {
	orders, events := make([]*order.Order, len(placements)), make([]outbox.Message, len(placements))
	for i, p := range placements {
		orders[i], events[i] = &p.Order, message(p.Event)
	}
	announce, args := outbox.Insertion(events, `subject IN (SELECT id::text FROM placed)`, orderColumns.Arrays(orders))
	if err := pg.InStatement(ctx, s.db, func(conn *sqlx.Conn) error {
		return conn.SelectContext(ctx, &taken, fmt.Sprintf(placeOrders, announce), args...)
	}); err != nil {
		return nil, fmt.Errorf("insert orders: %w", err)
	}
	return taken, nil
}

// Recover stores orders that are not there, without an event: theirs was published. It returns how many were not.
func (s *Store) Recover(ctx context.Context, tx *sqlx.Tx, orders []order.Order) (stored int64, err error) {
	result, err := tx.ExecContext(ctx, `
		INSERT INTO orders (`+orderColumns.String()+`) SELECT `+orderColumns.Unnested()+`
		ON CONFLICT (id) DO NOTHING`, orderColumns.Arrays(pg.Pointers(orders))...)
	if err != nil {
		return 0, fmt.Errorf("recover %d orders: %w", len(orders), err)
	}
	return result.RowsAffected()
}

// results returns the result of each placement, once those whose IDs were free are stored. tried reports that an
// earlier try may have been committed: an order that was placed at the very same time is of that try.
func (s *Store) results(ctx context.Context, placements []*Placement, taken []uuid.UUID, tried bool) ([]Placed, error) {
	var there map[uuid.UUID]order.Order
	if len(taken) > 0 {
		var err error
		if there, err = selectOrders(ctx, s.db, `
			SELECT `+orderColumns.String()+` FROM orders WHERE id = ANY($1::uuid[])`, taken); err != nil {
			return nil, err
		}
		if len(there) < len(taken) {
			return nil, fmt.Errorf("of %d orders that are not new only %d are there", len(taken), len(there))
		}
	}
	results := make([]Placed, len(placements))
	first := make(map[uuid.UUID]*order.Order, len(placements))
	for i, p := range placements {
		if o := first[p.Order.ID]; o != nil {
			results[i] = Placed{Order: o}
			continue
		}
		if o, ok := there[p.Order.ID]; ok {
			results[i] = Placed{Order: &o, New: tried && o.CreatedAt.Equal(p.Order.CreatedAt)}
		} else {
			results[i] = Placed{Order: &p.Order, New: true}
		}
		first[p.Order.ID] = results[i].Order
	}
	return results, nil
}

// Claim makes a key stand for a batch, or returns idempotency.ErrReused. repeated reports that it stood for the batch
// before.
func (s *Store) Claim(ctx context.Context, c idempotency.Claim) (repeated bool, err error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	outcomes, err := idempotency.Make(ctx, s.db, []idempotency.Claim{c}, s.Placed)
	if err != nil {
		return false, err
	}
	if outcomes[0].Err != nil {
		return false, idempotency.ErrReused
	}
	return outcomes[0].Repeated, nil
}

// Placed returns the fingerprints of the orders that exist among these.
func (s *Store) Placed(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	var rows []struct {
		ID          uuid.UUID `db:"id"`
		Fingerprint uuid.UUID `db:"fingerprint"`
	}
	if err := s.db.SelectContext(ctx, &rows, `
		SELECT id, fingerprint FROM orders WHERE id = ANY($1::uuid[])`, pg.UUIDs(ids)); err != nil {
		return nil, fmt.Errorf("look for orders of a key: %w", err)
	}
	found := make(map[uuid.UUID]uuid.UUID, len(rows))
	for _, row := range rows {
		found[row.ID] = row.Fingerprint
	}
	return found, nil
}

// Lock locks the orders that exist, for events of payments, in one global order, and returns them by ID.
func (s *Store) Lock(ctx context.Context, tx *sqlx.Tx, ids []uuid.UUID) (map[uuid.UUID]order.Order, error) {
	return lock(ids, func(ids []uuid.UUID) (map[uuid.UUID]order.Order, error) {
		return selectOrders(ctx, tx, `
			SELECT `+orderColumns.String()+` FROM orders WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE`, ids)
	})
}

// lock looks twice for what is not there: an order that was moved to the archive while a statement waited for its lock
// is seen by a later statement only.
func lock(ids []uuid.UUID, look func([]uuid.UUID) (map[uuid.UUID]order.Order, error)) (
	map[uuid.UUID]order.Order, error) {
	found, err := look(ids)
	if err != nil {
		return nil, err
	}
	missing := slices.DeleteFunc(slices.Clone(ids), func(id uuid.UUID) bool { _, ok := found[id]; return ok })
	if len(missing) == 0 {
		return found, nil
	}
	moved, err := look(missing)
	maps.Copy(found, moved)
	return found, err
}

// Asked is an order that somebody wants to change.
type Asked struct {
	OrderID uuid.UUID
	By      identity.Reach
}

// LockReached is Lock for those of the orders that are within the reach of whoever asks for them. It does not wait for
// the others.
func (s *Store) LockReached(ctx context.Context, tx *sqlx.Tx, asked []Asked) (map[uuid.UUID]order.Order, error) {
	ids, tenants, owners := make(pg.UUIDs, len(asked)), make(pg.Texts, len(asked)), make(pg.Texts, len(asked))
	for i, a := range asked {
		ids[i], tenants[i], owners[i] = a.OrderID, a.By.Normal().Tenant, a.By.Owner
	}
	return lock(ids, func(wanted []uuid.UUID) (map[uuid.UUID]order.Order, error) {
		var rows []order.Order
		if err := tx.SelectContext(ctx, &rows, `
			SELECT `+orderColumns.String()+` FROM orders
			WHERE id = ANY($4::uuid[]) AND EXISTS (
				SELECT FROM unnest($1::uuid[], $2::text[], $3::text[]) AS asked (order_id, by_tenant, by_owner)
				WHERE order_id = id AND by_tenant = tenant AND by_owner IN ('', subject)
			) ORDER BY id FOR UPDATE OF orders`, ids, tenants, owners, pg.UUIDs(wanted)); err != nil {
			return nil, fmt.Errorf("lock %d orders: %w", len(asked), err)
		}
		return byID(rows), nil
	})
}

// Changes is the database channel on which every process is told which orders have changed.
const Changes = "orders"

var (
	orderState = orderColumns.Only("id", "status", "reason", "note", "captured", "refunded", "version", "payment_version",
		"updated_at")
	steps = pg.ColumnsOf[order.Transition]().After(len(orderState))

	// saveOrders stores orders and their history and announces them on Changes, in one statement: where orders come
	// alone, each further statement would cost as much. The rows are locked and were read, so the conditions on versions
	// always hold.
	saveOrders = fmt.Sprintf(`
		WITH saved AS (
			UPDATE orders SET status = c.status, reason = c.reason, note = c.note, captured = c.captured,
				refunded = c.refunded, version = c.version, payment_version = c.payment_version, updated_at = c.updated_at
			FROM %s
			WHERE orders.id = c.id AND orders.version < c.version AND orders.payment_version <= c.payment_version
			RETURNING orders.id
		), written AS (
			INSERT INTO order_history (%s) SELECT %s
		)
		SELECT (SELECT count(*) FROM saved),
			(SELECT count(pg_notify('`+Changes+`', text)) FROM unnest($%d::text[]) AS text)`,
		orderState.Rows(), steps, steps.Unnested(), len(orderState)+len(steps)+1)
)

// Save stores the new states of orders that the transaction has locked, and the transitions that led to them. After the
// commit, every process that listens to Changes is told.
func (s *Store) Save(ctx context.Context, tx *sqlx.Tx, orders []order.Order, transitions []order.Transition) error {
	n := len(orders)
	if n+len(transitions) == 0 {
		return nil
	}
	changes := make([]watch.Change, n)
	for i, o := range orders {
		changes[i] = watch.Change{ID: o.ID, Version: o.Version}
	}
	args := append(orderState.Arrays(pg.Pointers(orders)), steps.Arrays(pg.Pointers(transitions))...)
	args = append(args, pg.Texts(watch.Announcements(changes)))
	var saved, told int
	if err := tx.QueryRowContext(ctx, saveOrders, args...).Scan(&saved, &told); err != nil {
		return fmt.Errorf("save %d orders: %w", n, err)
	}
	if saved != n {
		return fmt.Errorf("save %d orders: %d rows changed", n, saved)
	}
	return nil
}

// Cancellation is the request that began the cancellation of an order.
type Cancellation struct {
	OrderID     uuid.UUID     `db:"order_id"`
	Request     uuid.NullUUID `db:"request"` // derived from the client's key, if it gave one
	Fingerprint uuid.UUID     `db:"fingerprint"`
	Subject     string        `db:"subject"` // who asked for it; "" where nobody is told apart
	Key         string        `db:"key"`     // the client's; "" for none
	Note        string        `db:"reason"`  // in the client's words
	At          time.Time     `db:"at"`
}

// Cancellations returns the cancellations of these orders that have begun, by order.
func (s *Store) Cancellations(ctx context.Context, tx *sqlx.Tx, ids []uuid.UUID) (map[uuid.UUID]Cancellation, error) {
	cancellations := make(map[uuid.UUID]Cancellation, len(ids))
	if len(ids) == 0 {
		return cancellations, nil
	}
	var rows []Cancellation
	if err := tx.SelectContext(ctx, &rows, `
		SELECT `+cancellationColumns.String()+` FROM cancellations
		WHERE order_id = ANY($1::uuid[])`, pg.UUIDs(ids)); err != nil {
		return nil, fmt.Errorf("read cancellations: %w", err)
	}
	for _, c := range rows {
		cancellations[c.OrderID] = c
	}
	return cancellations, nil
}

var (
	cancellationColumns = pg.ColumnsOf[Cancellation]()
	insertCancellations = pg.Statement[Cancellation]{What: "save cancellations", Columns: cancellationColumns, Query: `
		WITH watched AS (
			INSERT INTO unsettled (order_id, due_at) SELECT unnest($1::uuid[]), clock_timestamp()
			ON CONFLICT (order_id) DO UPDATE SET due_at = excluded.due_at
		)
		INSERT INTO cancellations (` + cancellationColumns.String() + `) SELECT ` + cancellationColumns.Unnested()}
)

// CancelAgain is SaveCancellations for orders of which some may have been cancelled before: those keep what is stored.
func (s *Store) CancelAgain(ctx context.Context, tx *sqlx.Tx, cancellations []Cancellation) error {
	if _, err := tx.ExecContext(ctx, insertCancellations.Query+` ON CONFLICT (order_id) DO NOTHING`,
		cancellationColumns.Arrays(pg.Pointers(cancellations))...); err != nil {
		return fmt.Errorf("cancel %d orders again: %w", len(cancellations), err)
	}
	return nil
}

// SaveCancellations stores the requests that begin cancellations, and has the orders watched until they are cancelled:
// the sweep has passed most of them.
func (s *Store) SaveCancellations(ctx context.Context, tx *sqlx.Tx, cancellations []Cancellation) error {
	return insertCancellations.Of(pg.Pointers(cancellations))(ctx, tx)
}
