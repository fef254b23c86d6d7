package contract

import (
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/money"
)

// Command asks the billing core for an operation: over the topic billing.commands, as an item of POST
// /api/v1/operations/batch, and, but for what the path says, as the body of a single request. Each operation has its
// own fields, see Fields.
type Command struct {
	CommandID     *uuid.UUID    `json:"command_id,omitempty" swaggertype:"string" format:"uuid"`
	Operation     string        `json:"operation" enums:"create_account,deposit,invoice,withdraw,transfer,hold,capture,release,cancel"`
	ID            *uuid.UUID    `json:"id,omitempty" swaggertype:"string" format:"uuid"` // of a new account, chosen by the client; account_id is its other name
	Owner         string        `json:"owner,omitempty"`
	AccountID     *uuid.UUID    `json:"account_id,omitempty" swaggertype:"string" format:"uuid"`
	FromAccountID *uuid.UUID    `json:"from_account_id,omitempty" swaggertype:"string" format:"uuid"` // of a transfer, as account_id
	ToAccountID   *uuid.UUID    `json:"to_account_id,omitempty" swaggertype:"string" format:"uuid"`
	HoldID        *uuid.UUID    `json:"hold_id,omitempty" swaggertype:"string" format:"uuid"`
	OperationID   *uuid.UUID    `json:"operation_id,omitempty" swaggertype:"string" format:"uuid"` // of cancel: what is to be ended
	Reason        string        `json:"reason,omitempty"`                                          // of cancel: why; it becomes the operation's note
	Amount        money.Decimal `json:"amount,omitempty" swaggertype:"string" example:"777.00"`
	Currency      string        `json:"currency,omitempty" example:"RUB"`
	ExpiresIn     string        `json:"expires_in,omitempty"` // such as 15m
	Reference     string        `json:"reference,omitempty"`
	Description   string        `json:"description,omitempty"`
	// Of a withdrawal: whether it waits for money that is not there, until expires_in.
	OnInsufficient string `json:"on_insufficient,omitempty" enums:"reject,wait"`

	// Other names, as they are in use elsewhere.
	WalletID *uuid.UUID `json:"wallet_id,omitempty" swaggertype:"string" format:"uuid"` // account_id
	Ticker   string     `json:"ticker,omitempty"`                                       // currency
	OrderID  string     `json:"orderID,omitempty"`                                      // reference
} // @name Command

// Invoice is another name of the operation deposit.
const Invoice = "invoice"

// fields is the one table of the fields that each operation's command may have, beside operation and command_id. Other
// fields are refused wherever a command comes in, and the documents are tested against it.
var fields = []struct {
	operation string
	fields    []string
}{
	{"create_account", []string{"id", "account_id", "wallet_id", "owner", "reference", "orderID"}},
	{"deposit", []string{
		"account_id", "wallet_id", "amount", "currency", "ticker", "reference", "orderID", "description",
	}},
	{Invoice, []string{"account_id", "wallet_id", "amount", "currency", "ticker", "reference", "orderID", "description"}},
	{"withdraw", []string{"account_id", "wallet_id", "amount", "currency", "ticker", "on_insufficient", "expires_in",
		"reference", "orderID", "description"}},
	{"transfer", []string{"from_account_id", "account_id", "wallet_id", "to_account_id", "amount", "currency", "ticker",
		"reference", "orderID", "description"}},
	{"hold", []string{
		"account_id", "wallet_id", "amount", "currency", "ticker", "expires_in", "reference", "orderID", "description",
	}},
	{"capture", []string{"hold_id", "amount", "reference", "orderID", "description"}},
	{"release", []string{"hold_id", "reference", "orderID", "description"}},
	{"cancel", []string{"operation_id", "reason"}},
	{"balance", []string{"account_id", "wallet_id"}},
}

// Operations returns the operations that commands can ask for.
func Operations() []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.operation
	}
	return names
}

// Fields returns the fields that an operation's command may have, beside operation and command_id; nil if there is no
// such operation.
func Fields(operation string) []string {
	for _, f := range fields {
		if f.operation == operation {
			return f.fields
		}
	}
	return nil
}

// Variant is the name of the field that says which others a command has; see strictjson.Variant.
func (Command) Variant() string { return "operation" }

// Has tells whether a command of an operation may have a field. What is no operation may have any: it is refused
// itself.
func (Command) Has(operation, field string) bool {
	if field == "operation" || field == "command_id" {
		return true
	}
	its := Fields(operation)
	return its == nil || slices.Contains(its, field)
}

// Headers of a command.
const (
	// ReplyToHeader names the topic for the reply. It must begin with ReplyToPrefix; another one, or none, gets the
	// reply on TopicReplies; or with AUTH=jwt on the tenant's own topic, ReplyToPrefix and its name.
	ReplyToHeader = "reply_to"
	ReplyToPrefix = TopicReplies + "."
)

// RepliesInstead returns the topic for replies whose own topic cannot be reached, "" for a topic that is not for
// replies.
func RepliesInstead(topic string) string {
	if strings.HasPrefix(topic, ReplyToPrefix) {
		return TopicReplies
	}
	return ""
}

// ReplyType is the event type of a reply, as in the header ce_type.
const ReplyType = "billing.reply"

// Reply answers a command. Code is as the HTTP status would be.
type Reply struct {
	CommandID   *uuid.UUID `json:"command_id"` // null where the command had none
	Operation   string     `json:"operation"`  // as it was sent
	OperationID *uuid.UUID `json:"operation_id,omitempty"`
	Code        int        `json:"code"`
	Status      string     `json:"status"` // success or error
	Reason      string     `json:"reason,omitempty"`
	Detail      string     `json:"detail,omitempty"`
	// Body is the Operation, or the Account of create_account, or the Balances of balance.
	Body any `json:"body,omitempty"`
}

// Account is a client's account.
type Account struct {
	ID        uuid.UUID `json:"id" example:"01a0a3c5-96a1-7c4e-8d7c-6a1f0e9f2b11"`
	Owner     string    `json:"owner" example:"alice"`
	Reference string    `json:"reference,omitempty" example:"customer-42"`
	CreatedAt Time      `json:"created_at"`
	Balances  []Balance `json:"balances"`
} // @name Account

// Balance is what an account has of one currency: actual is free to use, frozen is set aside by holds.
type Balance struct {
	Currency string `json:"currency" example:"RUB"`
	Actual   string `json:"actual" example:"2500.00"`
	Frozen   string `json:"frozen" example:"0.00"`
} // @name Balance

// Balances are an account's balances by currency.
type Balances struct {
	Actual map[string]string `json:"actual_balance" example:"RUB:2500.00"`
	Frozen map[string]string `json:"frozen_balance" example:"RUB:0.00"`
} // @name Balances

// Operation is the permanent record of a request; the statuses success and error are final.
type Operation struct {
	ID          uuid.UUID `json:"id"`
	Operation   string    `json:"operation" enums:"create_account,deposit,withdraw,transfer,hold,capture,release,payment,refund"`
	AccountID   uuid.UUID `json:"account_id"`
	ToAccountID uuid.UUID `json:"to_account_id,omitzero" validate:"optional"`
	HoldID      uuid.UUID `json:"hold_id,omitzero" validate:"optional"`
	OrderID     uuid.UUID `json:"order_id,omitzero" validate:"optional"`
	CommandID   uuid.UUID `json:"command_id,omitzero" validate:"optional"`
	Reference   string    `json:"reference,omitempty"`
	Description string    `json:"description,omitempty"`
	Note        string    `json:"note,omitempty"` // what a client said of a cancellation, rejection or refund
	Amount      string    `json:"amount,omitempty" example:"777.00"`
	Currency    string    `json:"currency,omitempty" example:"RUB"`
	Status      string    `json:"status" enums:"created,success,error"`
	Reason      string    `json:"reason,omitempty"`
	CreatedAt   Time      `json:"created_at"`
	SettledAt   Time      `json:"settled_at,omitzero" validate:"optional"`

	// who asked for it: the sub of the token; only for that subject, and for those who may read what is not their own
	Subject        string `json:"subject,omitempty" example:"alice"`
	IdempotencyKey string `json:"idempotency_key,omitempty" example:"top-up-17"` // as subject
} // @name Operation
