package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Filter chooses orders. An empty field does not restrict the choice.
type Filter struct {
	AccountID       uuid.NullUUID
	Reference       string
	ReferencePrefix string
	Owner           string // who placed it
	OwnerPrefix     string
	Status          order.Status
	Reason          string
	Currency        string
	Min, Max        string     // of the amount, a decimal number in units of its currency, such as 10.50
	From, To        *time.Time // placed at or after From and before To
}

// row is an order in a list.
type row struct {
	order.Order
	Seq int64 `db:"seq"`
}

// minorUnits is an amount in minor units of the order's own currency. It need not be a whole number of them.
const minorUnits = `%[1]s::numeric * (SELECT 10::numeric ^ c.digits FROM currencies c WHERE c.code = t.currency)`

// List returns at most limit of the orders in reach below a position, the newest first, and the position where the
// list goes on, or 0 at its end; pg.NewestFirst is where it begins. Orders that are placed meanwhile come before the
// first page, so no order is left out or comes twice.
//
// One filter is answered by an index: a reference, else an account, else who placed the orders, else a prefix with
// which at most pg.MaxLooked orders begin. Where there is another one, or another tenant's orders are beside those of
// the default tenant, a page looks at pg.MaxLooked orders at most: see pg.Page.
func (s *Store) List(ctx context.Context, by identity.Reach, filter Filter, below int64, limit int) (
	page []order.Order, next int64, err error) {
	list, err := s.list(ctx, by.Normal(), filter)
	var rows []row
	if err == nil {
		rows, next, err = pg.Page(ctx, s.db, list, below, limit, func(r row) int64 { return r.Seq })
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list orders: %w", err)
	}
	page = make([]order.Order, len(rows))
	for i, r := range rows {
		page[i] = read(r.Order)
	}
	return page, next, nil
}

// list chooses the index by which orders are listed, and what is left to look at in their rows.
func (s *Store) list(ctx context.Context, by identity.Reach, f Filter) (pg.List, error) {
	list := pg.List{Columns: `t.seq, ` + orderColumns.String(), Table: `orders`}
	tenant, in := pg.Key{Column: "tenant", Value: by.Tenant}, pg.Walk{Negated: true, Where: `t.tenant <> 'default'`}
	in.Keys = []pg.Key{tenant}
	if by.Tenant == identity.DefaultTenant {
		in = pg.Walk{Where: `t.tenant = 'default'`}
	}
	// with is the walk for one column more. where restricts its index.
	with := func(w pg.Walk, column string, value any, pattern bool, where string) pg.Walk {
		w.Keys = append(slices.Clip(w.Keys), pg.Key{Column: column, Value: value, Pattern: pattern})
		w.Where += where
		return w
	}
	placed := pg.Walk{Keys: []pg.Key{tenant}, Negated: true, Where: `t.subject <> ''`}
	const referred = ` AND t.reference <> ''`

	rest := f
	owner := by.Owner
	mixed := false // the index has the orders of all tenants
	var walk pg.Walk
	switch {
	case f.Reference != "":
		walk, rest.Reference = with(in, "reference", f.Reference, true, referred), ""
	case f.AccountID.Valid:
		walk, rest.AccountID = with(in, "account_id", f.AccountID.UUID, false, ""), uuid.NullUUID{}
		mixed = by.Tenant == identity.DefaultTenant
	case owner != "":
		walk, owner = with(placed, "subject", owner, true, ""), ""
	case f.Owner != "":
		walk, rest.Owner = with(placed, "subject", f.Owner, true, ""), ""
	default:
		walk, mixed = in, by.Tenant == identity.DefaultTenant
		in.Where += referred
		list.Begins("reference", &f.ReferencePrefix, in)
		list.Begins("subject", &f.OwnerPrefix, placed)
	}
	if mixed { // there are no indexes of the default tenant's orders alone
		walk.Where = ""
	}
	list.Walks = []pg.Walk{walk}
	list.Begins("reference", &f.ReferencePrefix)
	list.Begins("subject", &f.OwnerPrefix)
	list.Filter = []pg.Condition{
		{SQL: `t.reference = %[1]s`, Value: pg.Given(rest.Reference)},
		{SQL: `t.account_id = %[1]s`, Value: pg.Given(rest.AccountID)},
		{SQL: `t.subject = %[1]s`, Value: pg.Given(owner)},
		{SQL: `t.subject = %[1]s`, Value: pg.Given(rest.Owner)},
		{SQL: `t.status = %[1]s`, Value: pg.Given(string(f.Status))},
		// Earlier versions stored the note of a cancellation as the reason; see read.
		{SQL: `CASE WHEN t.status IN ('cancelling', 'cancelled') THEN 'cancelled' ELSE t.reason END = %[1]s`,
			Value: pg.Given(f.Reason)},
		{SQL: `t.currency = %[1]s`, Value: pg.Given(f.Currency)},
		{SQL: `t.amount >= ` + minorUnits, Value: pg.Given(f.Min)},
		{SQL: `t.amount <= ` + minorUnits, Value: pg.Given(f.Max)},
	}
	if err := s.guard(ctx, &list, tenant, mixed); err != nil {
		return list, err
	}
	return list, list.Within(ctx, s.db, pg.Walk{}, "created_at", f.From, f.To)
}

// guard adds the tenant's condition to a list. Rows need to be counted for it only where other tenants have any.
func (s *Store) guard(ctx context.Context, list *pg.List, tenant pg.Key, mixed bool) error {
	condition := pg.Condition{SQL: `t.tenant = %[1]s`, Value: tenant.Value}
	tenants := false
	if mixed {
		ctx, cancel := pg.Detached(ctx)
		defer cancel()
		if err := s.db.GetContext(ctx, &tenants, `
			SELECT EXISTS (SELECT FROM orders WHERE tenant <> $1 AND tenant <> 'default' ORDER BY tenant LIMIT 1)`,
			tenant.Value); err != nil {
			return err
		}
	}
	if tenants {
		list.Filter = append(list.Filter, condition)
	} else {
		list.Guard = append(list.Guard, condition)
	}
	return nil
}
