package api

import (
	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/money"
)

// PlaceOrder is a request for an order. Its fields are those of order.Request.
type PlaceOrder struct {
	AccountID string `json:"account_id" format:"uuid" example:"0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11" validate:"required"`
	// a decimal string or number, at most with the currency's digits
	Amount      money.Decimal `json:"amount" swaggertype:"string" example:"70.00" validate:"required"`
	Currency    string        `json:"currency" example:"RUB" validate:"required"`
	Description string        `json:"description,omitempty" example:"Order 17 of the shop" maxLength:"1000"`
	// the caller's own ID
	Reference string `json:"reference,omitempty" example:"shop-17" maxLength:"200"`
	// manual: the money is held until the payment is confirmed or rejected
	Capture string `json:"capture,omitempty" enums:"automatic,manual" default:"automatic"`
	// wait for the goods to be set aside
	AwaitInventory bool `json:"await_inventory,omitempty" example:"false" default:"false"`
	// wait: for money, until the deadline
	OnInsufficient string `json:"on_insufficient,omitempty" enums:"reject,wait" default:"reject"`
	// the deadline, from now: 1s to 8760h, of what waits for money 720h
	ExpiresIn string `json:"expires_in,omitempty" example:"15m"`
}

// PlaceOrders is a request for many orders.
type PlaceOrders struct {
	Orders []PlaceOrder `json:"orders" minItems:"1" maxItems:"1000" validate:"required"`
}

// CancelOrder is a request to cancel an order.
type CancelOrder struct {
	Reason string `json:"reason,omitempty" example:"the client changed its mind" maxLength:"200"`
}

// Order is an order as its clients see it.
type Order struct {
	ID             uuid.UUID    `json:"id" swaggertype:"string" format:"uuid" example:"0198c5a8-0d3c-7b0f-8a52-5c1d2e3f4a5b"`
	AccountID      uuid.UUID    `json:"account_id" swaggertype:"string" format:"uuid" example:"0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11"`
	Amount         string       `json:"amount" example:"2500.00"` // with the currency's number of digits, as all amounts
	Currency       string       `json:"currency" example:"RUB"`
	Description    string       `json:"description" example:"Order 17 of the shop"`
	Reference      string       `json:"reference,omitempty" example:"shop-17"`
	Capture        string       `json:"capture" enums:"automatic,manual" example:"automatic"`
	AwaitInventory bool         `json:"await_inventory" example:"false"`
	Status         order.Status `json:"status" swaggertype:"string" enums:"pending,authorized,paid,failed,cancelling,cancelled" example:"paid"`
	// what it waits for, why it failed or is cancelled
	Reason string `json:"reason,omitempty" example:"insufficient_funds"`
	// what a client said of the cancellation, rejection or refund
	Note           string         `json:"note,omitempty"`
	CapturedAmount string         `json:"captured_amount" example:"2500.00"`
	RefundedAmount string         `json:"refunded_amount" example:"0.00"`
	CreatedAt      contract.Time  `json:"created_at" format:"date-time" example:"2026-01-02T15:04:05.123456Z"`
	UpdatedAt      contract.Time  `json:"updated_at" format:"date-time" example:"2026-01-02T15:04:05.130123Z"`
	ExpiresAt      *contract.Time `json:"expires_at,omitempty" format:"date-time"`
}

// Results answers a request for many orders, in the order of the request.
type Results struct {
	Items []Result `json:"items"`
}

// Result is what became of one order of a batch: either an order or a problem.
type Result struct {
	Index   int                 `json:"index" example:"0"`
	Order   *Order              `json:"order,omitempty"`
	Problem *httpserver.Problem `json:"problem,omitempty"`
}

// Timeline is what happened to an order, the first event first.
type Timeline struct {
	Items []TimelineItem `json:"items"`
}

// TimelineItem is a step of an order.
type TimelineItem struct {
	At     contract.Time `json:"at" format:"date-time" example:"2026-01-02T15:04:05.130123Z"`
	Status order.Status  `json:"status" swaggertype:"string" enums:"pending,authorized,paid,failed,cancelling,cancelled" example:"paid"`
	// why; where the status is the one before, what happened to the payment
	Reason  string     `json:"reason,omitempty"`
	Note    string     `json:"note,omitempty"` // what a client said of it
	EventID *uuid.UUID `json:"event_id,omitempty" swaggertype:"string" format:"uuid"`
}

func (a *API) json(o order.Order) (Order, error) {
	currency, err := o.Denomination(a.currencies)
	if err != nil {
		return Order{}, err
	}
	return Order{
		ID: o.ID, AccountID: o.AccountID, Amount: currency.Format(o.Amount), Currency: o.Currency, Description: o.Description,
		Reference: o.Reference, Capture: o.Capture, AwaitInventory: o.AwaitInventory,
		Status: o.Status, Reason: o.Reason, Note: o.Note,
		CapturedAmount: currency.Format(o.Captured), RefundedAmount: currency.Format(o.Refunded),
		CreatedAt: contract.Time(o.CreatedAt), UpdatedAt: contract.Time(o.UpdatedAt),
		ExpiresAt: (*contract.Time)(o.ExpiresAt),
	}, nil
}

// timelineOf begins with the placing of the order, which is in its row, and goes on with its transitions.
func timelineOf(o order.Order, transitions []order.Transition) Timeline {
	placed := o.PlacedEventID()
	items := []TimelineItem{{At: contract.Time(o.CreatedAt), Status: order.Pending, EventID: &placed}}
	for _, t := range transitions {
		item := TimelineItem{At: contract.Time(t.At), Status: t.To, Reason: t.Reason, Note: t.Note}
		if t.EventID.Valid {
			item.EventID = &t.EventID.UUID
		}
		items = append(items, item)
	}
	return Timeline{items}
}
