package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// AccountFilter chooses accounts. An empty field does not restrict the choice.
type AccountFilter struct{ Owner, OwnerPrefix, Reference, ReferencePrefix string }

// OperationFilter chooses operations. An empty field does not restrict the choice.
type OperationFilter struct {
	AccountID                  uuid.NullUUID // who pays or is paid
	OrderID                    uuid.NullUUID
	Reference, ReferencePrefix string
	Kind                       ledger.Kind
	Status                     ledger.Status
	Reason                     ledger.Reason
	From, To                   *time.Time // accepted at or after From and before To
}

// PaymentFilter chooses payments of orders. An empty field does not restrict the choice.
type PaymentFilter struct {
	AccountID, OrderID uuid.NullUUID
	Status             string
	Reason             ledger.Reason
	From, To           *time.Time // the order was accepted at or after From and before To
}

// tenantWalk is the walk through what a tenant has, as far as an index is restricted. One plan serves all values, so
// what an index is restricted to is said as it is there: the default tenant has indexes of its own, and all others
// together. keys are the index's columns behind the tenant.
func tenantWalk(by identity.Reach, where string, keys ...pg.Key) pg.Walk {
	w := pg.Walk{Keys: keys, Where: `t.tenant = 'default'` + where}
	if by.Tenant != identity.DefaultTenant {
		w = pg.Walk{Keys: append([]pg.Key{tenantKey(by)}, keys...), Where: `t.tenant <> 'default'` + where}
	}
	return w
}

func tenantKey(by identity.Reach) pg.Key { return pg.Key{Column: "tenant", Value: by.Tenant} }

// ownedIndex is what the indexes of owners are restricted to.
const ownedIndex = ` AND t.owner <> ''`

func ownerKey(owner string) pg.Key { return pg.Key{Column: "owner", Value: owner, Pattern: true} }

// Accounts lists accounts, newest first; see pg.Page. An index answers the reference, else the owner.
func (s *Store) Accounts(ctx context.Context, by identity.Reach, f AccountFilter, below int64, limit int) (
	accounts []Account, next int64, err error) {
	by = by.Normal()
	l := pg.List{Columns: `id, tenant, owner, reference, seq, created_at`, Table: `accounts`}
	const referred = ` AND t.reference <> ''`
	owner := by.Owner
	switch {
	case f.Reference != "":
		l.Walks = []pg.Walk{tenantWalk(by, referred, pg.Key{Column: "reference", Value: f.Reference, Pattern: true})}
		f.Reference = ""
	case owner != "":
		l.Walks = []pg.Walk{tenantWalk(by, ownedIndex, ownerKey(owner))}
		owner = ""
	case f.Owner != "":
		l.Walks = []pg.Walk{tenantWalk(by, ownedIndex, ownerKey(f.Owner))}
		f.Owner = ""
	default:
		l.Walks = []pg.Walk{tenantWalk(by, "")}
		l.Begins("reference", &f.ReferencePrefix, tenantWalk(by, referred))
		l.Begins("owner", &f.OwnerPrefix, tenantWalk(by, ownedIndex))
	}
	l.Begins("reference", &f.ReferencePrefix)
	l.Begins("owner", &f.OwnerPrefix)
	l.Filter = []pg.Condition{
		{SQL: `t.reference = %[1]s`, Value: pg.Given(f.Reference)},
		{SQL: `t.owner = %[1]s`, Value: pg.Given(owner)}, {SQL: `t.owner = %[1]s`, Value: pg.Given(f.Owner)},
	}
	accounts, next, err = pg.Page(ctx, s.db, l, below, limit, func(a Account) int64 { return a.Seq })
	if err != nil {
		return nil, 0, fmt.Errorf("list accounts: %w", err)
	}
	return accounts, next, s.addBalances(ctx, accounts)
}

// Operations lists operations, newest first; see pg.Page. An index answers the order, else the reference, else the
// account. The list leaves out the records of cancellations: the operations that they ended tell of them. Of an account
// it leaves out what those have asked for who do not reach it.
func (s *Store) Operations(ctx context.Context, by identity.Reach, f OperationFilter, below int64, limit int) (
	operations []ledger.Operation, next int64, err error) {
	by = by.Normal()
	l := pg.List{Columns: operationColumns}
	if f.AccountID.Valid {
		if out, err := s.outOfReach(ctx, by, f.AccountID.UUID); out || err != nil {
			return nil, 0, err
		}
	} else if by.Owner != "" { // of an account in reach, all is
		owned, err := s.owned(ctx, by)
		if err != nil {
			return nil, 0, err
		}
		l.Filter = append(l.Filter, owned)
	}
	restrict(&l, by, &f)
	l.Filter = append(l.Filter,
		pg.Condition{SQL: `t.status = %[1]s`, Value: pg.Given(string(f.Status))},
		pg.Condition{SQL: `t.reason = %[1]s`, Value: pg.Given(string(f.Reason))},
		pg.Condition{SQL: `t.operation = %[1]s`, Value: pg.Given(string(f.Kind))})
	l.Guard = append(l.Guard, pg.Condition{SQL: `t.operation <> %[1]s`, Value: string(ledger.KindCancelOperation)})
	var rows []operationRow
	if err = l.Within(ctx, s.db, tenantWalk(by, ""), "created_at", f.From, f.To); err == nil {
		rows, next, err = pg.Page(ctx, s.db, l, below, limit, func(r operationRow) int64 { return r.Seq })
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list operations: %w", err)
	}
	operations = make([]ledger.Operation, len(rows))
	for i, row := range rows {
		operations[i] = row.operation()
	}
	return operations, next, nil
}

// maxOwned is how many accounts of an owner are named to find what is about them.
const maxOwned = 1000

// owned is the condition for operations that are about an owner's accounts.
func (s *Store) owned(ctx context.Context, by identity.Reach) (pg.Condition, error) {
	const about = `ANY(ARRAY[CASE WHEN NOT t.stranger THEN t.account_id END, nullif(t.to_account_id, t.account_id)])`
	l := pg.List{Columns: `id, seq`, Table: `accounts`, Walks: []pg.Walk{tenantWalk(by, ownedIndex, ownerKey(by.Owner))}}
	type row struct {
		ID  uuid.UUID `db:"id"`
		Seq int64     `db:"seq"`
	}
	accounts, next, err := pg.Page(ctx, s.db, l, pg.NewestFirst, maxOwned, func(r row) int64 { return r.Seq })
	if err != nil {
		return pg.Condition{}, fmt.Errorf("list accounts of an owner: %w", err)
	}
	if next != 0 { // not on Citus, which plans no statement about rows of several lanes
		return pg.Condition{Value: by.Owner,
			SQL: `EXISTS (SELECT FROM accounts a WHERE a.tenant = t.tenant AND a.owner = %[1]s AND a.id = ` + about + `)`}, nil
	}
	ids := make(pg.UUIDs, len(accounts))
	for i, a := range accounts {
		ids[i] = a.ID
	}
	return pg.Condition{SQL: `(NOT t.stranger AND t.account_id = ANY(%[1]s::uuid[])
		OR t.to_account_id <> t.account_id AND t.to_account_id = ANY(%[1]s::uuid[]))`, Value: ids}, nil
}

// outOfReach tells whether an account is not there for the one who asks.
func (s *Store) outOfReach(ctx context.Context, by identity.Reach, account uuid.UUID) (bool, error) {
	_, err := s.Account(ctx, by, account)
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	return false, err
}

// restrict chooses the index by which operations are listed. The account must be in reach. An index that has not the
// rows of the tenant alone has those of one account or order, whose tenant is the same.
func restrict(l *pg.List, by identity.Reach, f *OperationFilter) {
	l.Table = `operations`
	l.Guard = append(l.Guard, pg.Condition{SQL: `t.tenant = %[1]s`, Value: by.Tenant})
	account, reference := f.AccountID, f.Reference
	switch {
	case f.OrderID.Valid: // the operation that began the payment has the order's ID, and is in no index of orders
		l.Walks = []pg.Walk{
			{Keys: []pg.Key{{Column: "id", Value: f.OrderID.UUID}}, Where: `t.order_id = t.id`},
			{Keys: []pg.Key{{Column: "order_id", Value: f.OrderID.UUID}}, Where: `t.order_id <> t.id`},
		}
	case reference != "":
		l.Walks = []pg.Walk{{Where: `t.reference <> ''`,
			Keys: []pg.Key{tenantKey(by), {Column: "reference", Value: reference, Pattern: true}}}}
		reference = ""
	case account.Valid:
		l.Walks = []pg.Walk{
			{Keys: []pg.Key{{Column: "account_id", Value: account.UUID}}, Where: `NOT t.stranger`},
			{Keys: []pg.Key{{Column: "to_account_id", Value: account.UUID}, tenantKey(by)},
				Where: `t.to_account_id IS NOT NULL AND t.to_account_id <> t.account_id`},
		}
		account = uuid.NullUUID{}
	default:
		l.Walks = []pg.Walk{tenantWalk(by, "")}
		l.Begins("reference", &f.ReferencePrefix, pg.Walk{Keys: []pg.Key{tenantKey(by)}, Where: `t.reference <> ''`})
	}
	l.Begins("reference", &f.ReferencePrefix)
	l.Filter = append(l.Filter,
		pg.Condition{SQL: `%[1]s = CASE WHEN NOT t.stranger AND t.account_id = %[1]s THEN t.account_id
			ELSE nullif(t.to_account_id, t.account_id) END`, Value: pg.Given(account)},
		pg.Condition{SQL: `t.reference = %[1]s`, Value: pg.Given(reference)})
}

// Payments lists payments of orders, newest first; see pg.Page. Each has the operation that began it, which has the
// order's ID: by the indexes of operations they are found.
func (s *Store) Payments(ctx context.Context, by identity.Reach, f PaymentFilter, below int64, limit int) (
	payments []ledger.OrderPayment, next int64, err error) {
	by = by.Normal()
	l := pg.List{Columns: `t.seq, ` + of("p", paymentColumns),
		Join: `JOIN payments p ON p.order_id = t.id AND p.lane = t.lane`}
	if f.AccountID.Valid {
		if out, err := s.outOfReach(ctx, by, f.AccountID.UUID); out || err != nil {
			return nil, 0, err
		}
	}
	restrict(&l, by, &OperationFilter{AccountID: f.AccountID, OrderID: f.OrderID})
	l.Walks = l.Walks[:1] // nobody is paid by an order's payment, and what is done to it later begins none
	l.Filter = append(l.Filter,
		pg.Condition{SQL: `EXISTS (SELECT FROM accounts a WHERE a.id = p.account_id AND a.lane = p.lane
			AND a.tenant = t.tenant AND a.owner = %[1]s)`, Value: pg.Given(by.Owner)},
		pg.Condition{SQL: `p.status = %[1]s`, Value: pg.Given(f.Status)},
		// The version before kept the note of a cancellation as the reason; see paymentOf.
		pg.Condition{SQL: `CASE WHEN p.status = 'cancelled' THEN 'cancelled' ELSE p.reason END = %[1]s`,
			Value: pg.Given(string(f.Reason))},
		pg.Condition{SQL: `t.operation = %[1]s`, Value: string(ledger.KindPayment)})
	type row struct {
		ledger.OrderPayment
		Seq int64 `db:"seq"`
	}
	var rows []row
	if err = l.Within(ctx, s.db, tenantWalk(by, ""), "created_at", f.From, f.To); err == nil {
		rows, next, err = pg.Page(ctx, s.db, l, below, limit, func(r row) int64 { return r.Seq })
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list payments: %w", err)
	}
	payments = make([]ledger.OrderPayment, len(rows))
	for i, r := range rows {
		payments[i] = paymentOf(r.OrderPayment)
	}
	return payments, next, nil
}

// Holds lists what was set aside of an account, newest first, with any status if it is ""; see pg.Page. Each hold has
// the ID of the operation that made it: by the indexes of operations they are found.
func (s *Store) Holds(ctx context.Context, account Account, status ledger.HoldStatus, below int64, limit int) (
	holds []ledger.Hold, next int64, err error) {
	l := pg.List{Columns: `t.seq, ` + of("h", holdColumns), Join: `JOIN holds h ON h.id = t.id AND h.lane = t.lane`}
	restrict(&l, identity.Reach{Tenant: account.Tenant}.Normal(),
		&OperationFilter{AccountID: uuid.NullUUID{UUID: account.ID, Valid: true}})
	l.Walks = l.Walks[:1]
	l.Filter = append(l.Filter, pg.Condition{SQL: `h.account_id = %[1]s`, Value: account.ID},
		pg.Condition{SQL: `h.status = %[1]s`, Value: pg.Given(string(status))})
	type row struct {
		ledger.Hold
		Seq int64 `db:"seq"`
	}
	rows, next, err := pg.Page(ctx, s.db, l, below, limit, func(r row) int64 { return r.Seq })
	if err != nil {
		return nil, 0, fmt.Errorf("list holds: %w", err)
	}
	holds = make([]ledger.Hold, len(rows))
	for i, r := range rows {
		holds[i] = holdOf(r.Hold)
	}
	return holds, next, nil
}

// of says of which table columns are.
func of(table, columns string) string {
	return table + `.` + strings.ReplaceAll(columns, `, `, `, `+table+`.`)
}
