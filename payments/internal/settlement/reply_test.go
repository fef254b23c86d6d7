package settlement

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/testkit/outboxtest"
)

// A command that waits since it came in a batch over HTTP, which asks for no reply, gets its one reply when it has
// come over the broker, however it ends and whatever of all this is settled together.
func TestWhatWaitsIsAnsweredOnceItIsAskedFor(t *testing.T) {
	t.Parallel()
	db, settle := setupSettlement(t)
	for ending, reason := range map[string]string{"cancelled": "cancelled", "expired": "expired", "served": ""} {
		for splits := range 1 << 3 { // after which of the messages a batch ends
			account, command := uuid.New(), uuid.New()
			request := func(r ledger.Request) postgres.Message {
				r.AccountID, r.Lane = account, contract.Lane(account)
				if r.ID == uuid.Nil {
					r.ID = uuid.New()
				}
				return billing.Message(r, "")
			}
			waits := ledger.Request{
				ID: contract.DerivedID(contract.TopicCommands, account, command.String()), CommandID: command,
				Fingerprint: uuid.NullUUID{UUID: uuid.New(), Valid: true},
				Command:     ledger.Withdrawal{Currency: "RUB", Amount: 500, WaitForFunds: true, ExpiresIn: time.Nanosecond},
			}
			asks := waits
			asks.Reply = billing.ReplyTo{Topic: contract.TopicReplies, CommandID: command, Operation: "withdraw"}.Encode()
			stranger := asks // another request under the same ID does not get the reply
			stranger.Fingerprint.UUID = uuid.New()
			end := ledger.Request{Command: ledger.CancelOperation{OperationID: waits.ID}}
			switch ending {
			case "expired":
				end = ledger.Request{Command: ledger.Expire{WaitID: waits.ID}}
			case "served":
				end = ledger.Request{Command: ledger.Deposit{Currency: "RUB", Amount: 500}}
			}
			settle([]postgres.Message{request(ledger.Request{Command: ledger.CreateAccount{}})})
			var batch []postgres.Message
			for i, r := range []ledger.Request{waits, stranger, asks, end} {
				if batch = append(batch, request(r)); i == 3 || splits&(1<<i) != 0 {
					settle(batch)
					batch = nil
				}
			}
			if ending == "served" {
				settle([]postgres.Message{request(ledger.Request{Command: ledger.Resume{Currency: "RUB"}})})
			}
			var got []string
			for _, m := range outboxtest.Messages(t, db.Owner) {
				var reply contract.Reply
				if m.Type != contract.ReplyType {
					continue
				}
				if err := json.Unmarshal([]byte(m.Payload), &reply); err != nil {
					t.Fatal(err)
				}
				if *reply.CommandID == command {
					got = append(got, fmt.Sprint(reply.Code, " ", reply.Reason))
				}
			}
			want := []string{"422 idempotency_key_reused", "422 " + reason}
			if ending == "served" {
				want[1] = "201 "
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s, batches end after %03b: the replies %q, want %q", ending, splits, got, want)
			}
			var op, waiting string
			err := db.Owner.QueryRow(`
				SELECT command_id::text, (SELECT count(*) FROM waits)::text FROM operations WHERE id = $1`,
				waits.ID).Scan(&op, &waiting)
			if err != nil || op != command.String() || waiting != "0" {
				t.Errorf("%s: %v, the command %s, %s wait", ending, err, op, waiting)
			}
		}
	}
}
