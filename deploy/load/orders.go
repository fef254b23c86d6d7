package load

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// Order is an order as a client sees it.
type Order struct {
	ID             uuid.UUID  `json:"id"`
	AccountID      uuid.UUID  `json:"account_id"`
	Amount         string     `json:"amount"`
	Status         string     `json:"status"`
	Reason         string     `json:"reason"`
	Note           string     `json:"note"`
	CapturedAmount string     `json:"captured_amount"`
	RefundedAmount string     `json:"refunded_amount"`
	CreatedAt      time.Time  `json:"created_at"`
	UpdatedAt      time.Time  `json:"updated_at"`
	ExpiresAt      *time.Time `json:"expires_at"`
}

// Final reports whether the order will not change by itself any more.
func (o Order) Final() bool {
	return o.Status == "paid" || o.Status == "failed" || o.Status == "cancelled"
}

// NewOrder is a request for an order.
type NewOrder struct {
	AccountID      uuid.UUID `json:"account_id"`
	Amount         string    `json:"amount"`
	Currency       string    `json:"currency"`
	Capture        string    `json:"capture,omitempty"`
	AwaitInventory bool      `json:"await_inventory,omitempty"`
	OnInsufficient string    `json:"on_insufficient,omitempty"`
	ExpiresIn      string    `json:"expires_in,omitempty"`
}

// OrdersPath is where orders are placed, and the scope of the keys from which their IDs are derived.
const OrdersPath = "/api/v1/orders"

// The calls of a saga. Each is repeated under its key until it is answered.

// stepWait is how long a step of a payment waits for its result: as long as the service allows, so that an answer
// without a result means that something is wrong.
const stepWait = "?wait=30s"

// Place places an order.
func (c *Client) Place(ctx context.Context, key string, order NewOrder) (placed Order, err error) {
	err = c.Retry(ctx, OrdersPath, key, order, &placed)
	return placed, err
}

// Cancel cancels an order; a reason may be empty.
func (c *Client) Cancel(ctx context.Context, key string, order uuid.UUID, reason string) (cancelled Order, err error) {
	err = c.Retry(ctx, OrdersPath+"/"+order.String()+"/cancel", key, only("reason", reason), &cancelled)
	return cancelled, err
}

// Confirm captures an amount of what is held for an order; "" stands for all of it.
func (c *Client) Confirm(ctx context.Context, key string, order uuid.UUID, amount string) (contract.Payment, error) {
	return c.step(ctx, key, order, "confirm", only("amount", amount))
}

// Reject releases what is held for an order; a reason may be empty.
func (c *Client) Reject(ctx context.Context, key string, order uuid.UUID, reason string) (contract.Payment, error) {
	return c.step(ctx, key, order, "reject", only("reason", reason))
}

// Refund returns an amount of what was captured for an order; "" stands for all that is left.
func (c *Client) Refund(ctx context.Context, key string, order uuid.UUID, amount string) (contract.Payment, error) {
	return c.step(ctx, key, order, "refund", only("amount", amount))
}

func (c *Client) step(ctx context.Context, key string, order uuid.UUID, step string,
	body any) (payment contract.Payment, err error) {
	err = c.Retry(ctx, "/api/v1/payments/"+order.String()+"/"+step+stepWait, key, body, &payment)
	return payment, err
}

// only returns a body with one field, or nil if its value is empty.
func only(field, value string) map[string]string {
	if value == "" {
		return map[string]string{}
	}
	return map[string]string{field: value}
}
