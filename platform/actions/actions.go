// Package actions is the record of what operators did: who, what, when and why, in a table that a service can only add
// to. An action that changes the database is recorded in the same transaction, so neither is there without the other.
package actions

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/parked"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations creates the table admin_actions.
func Migrations() pg.Migrations { return pg.Embedded("actions", files) }

// Action is something that an operator did.
type Action struct {
	ID uuid.UUID     `db:"id" json:"id" swaggertype:"string" format:"uuid"`
	At contract.Time `db:"at" json:"at" format:"date-time" example:"2026-01-02T15:04:05.123456Z"`
	// of the operator
	Tenant string `db:"tenant" json:"tenant" example:"default"`
	// the operator: the token's sub; left out where nobody has to show who they are
	Subject string `db:"subject" json:"subject,omitempty" validate:"optional" example:"alice"`
	Action  string `db:"action" json:"action" enums:"parked.redrive,parked.discard,dead_letter.put_back,message.on_behalf,ledger.seal,order.announce,database.restored,account.erased"`
	// what it was done to: an ID, a message as topic/partition/offset, or a sealing by its number
	Object string `db:"object" json:"object" example:"01a1fa0e-c6f4-7058-9bab-7af3716ffb16"`
	// what the operator said
	Reason string `db:"reason" json:"reason,omitempty" validate:"optional" example:"agreed with the client in ticket 42"`
	// the object as it was
	Detail    json.RawMessage `db:"-" json:"detail" swaggertype:"object"`
	RequestID string          `db:"request_id" json:"request_id,omitempty" validate:"optional"`
} // @name AdminAction

// The actions.
const (
	Redrive  = "parked.redrive"
	Discard  = "parked.discard"
	PutBack  = "dead_letter.put_back" // recorded before the message is published
	OnBehalf = "message.on_behalf"    // a message of an operator, for someone else; recorded before its effect
	Seal     = "ledger.seal"
	Announce = "order.announce" // recorded before it is done
	Restored = "database.restored"
	Erase    = "account.erased"
)

// New returns an action. Its detail, what it was done to as it was, is encoded as JSON.
func New(who identity.Identity, action, object, reason string, detail any) (Action, error) {
	text, err := json.Marshal(detail)
	if err != nil {
		return Action{}, fmt.Errorf("record an operator's action: %w", err)
	}
	return Action{ID: uuid.Must(uuid.NewV7()), Tenant: who.Tenant, Subject: who.Subject, Action: action, Object: object,
		Reason: reason, Detail: text}, nil
}

// Record records actions whose effect is not in this database, before they are done.
func Record(ctx context.Context, db *sqlx.DB, list []Action) error {
	return pg.InTx(ctx, db, func(tx *sqlx.Tx) error {
		for _, a := range list {
			if err := Append(ctx, tx, a); err != nil {
				return err
			}
		}
		return nil
	})
}

// Append records an action with the transaction in which it is done; one that is recorded already changes nothing. The
// database tells the time.
func Append(ctx context.Context, tx *sqlx.Tx, a Action) error {
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO admin_actions (id, tenant, subject, action, object, reason, detail, request_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
		a.ID, a.Tenant, a.Subject, a.Action, a.Object, a.Reason, string(a.Detail), a.RequestID); err != nil {
		return fmt.Errorf("record an operator's action: %w", err)
	}
	return nil
}

// EraseAbout empties the details of actions that name an ID: they may have texts of clients. Only the owner of the
// table can do that. It returns of how many.
func EraseAbout(ctx context.Context, tx *sqlx.Tx, id string) (int64, error) {
	result, err := tx.ExecContext(ctx, `UPDATE admin_actions SET detail = '{}' WHERE position($1 IN detail) > 0`, id)
	if err != nil {
		return 0, fmt.Errorf("erase operators' actions: %w", err)
	}
	return result.RowsAffected()
}

// Newest is the position before the whole list, which has the newest first.
var Newest = parked.Position{At: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), ID: uuid.Max}

// Position returns the action's place in the list.
func (a Action) Position() parked.Position {
	return parked.Position{At: time.Time(a.At).UTC(), ID: a.ID}
}

// List returns at most limit actions after a position, the newest first.
func List(ctx context.Context, db *sqlx.DB, after parked.Position, limit int) ([]Action, error) {
	var rows []struct {
		Action
		Text string `db:"detail"`
	}
	if err := db.SelectContext(ctx, &rows, `
		SELECT id, at, tenant, subject, action, object, reason, detail, request_id
		FROM admin_actions WHERE (at, id) < ($1, $2) ORDER BY at DESC, id DESC LIMIT $3`,
		after.At, after.ID, limit); err != nil {
		return nil, fmt.Errorf("list operators' actions: %w", err)
	}
	list := make([]Action, len(rows))
	for i, row := range rows {
		list[i] = row.Action
		list[i].Detail = json.RawMessage(row.Text)
	}
	return list, nil
}
