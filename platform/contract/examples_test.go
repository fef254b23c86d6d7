package contract_test

import (
	"cmp"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// example is one message as the golden files keep it.
type example struct {
	Headers map[string]string `json:"headers,omitempty"`
	Payload any               `json:"payload"`
}

// What the examples are about.
var (
	alice     = uuid.MustParse("019b3c5e-7a40-7c4e-8d7c-6a1f0e9f2b11")
	bob       = uuid.MustParse("019b3c5e-7a52-7d0a-9b6e-0f6f8f1c2d22")
	orderID   = uuid.MustParse("019b3c60-1f00-7b3a-a5c4-2e7d9b8a6c33")
	commandID = uuid.MustParse("019b3c61-4b80-7e5f-8a9b-4c6d8e0f1a44")
	at        = time.Date(2026, 1, 15, 9, 30, 0, 123456000, time.UTC)
)

const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// examples are the messages of the golden files by name. They are stable: what is published must never change, nor
// may the IDs that are derived.
func examples() map[string]example {
	all := map[string]example{}
	orders(all)
	payments(all)
	commands(all)
	replies(all)
	return all
}

func event(e kafka.Event, payload any) example {
	e.Time, e.Traceparent, e.Tenant = at, trace, cmp.Or(e.Tenant, identity.DefaultTenant)
	return message(kafka.Message{Headers: e.Headers()}, payload)
}

func message(m kafka.Message, payload any) example {
	headers := map[string]string{}
	for _, h := range m.Headers {
		headers[h.Key] = string(h.Value)
	}
	return example{headers, payload}
}

func orders(all map[string]example) {
	deadline := at.Add(24 * time.Hour)
	plain := contract.Order{OrderID: orderID, AccountID: alice, Amount: "2500.00", Currency: "RUB",
		Description: "Two tickets",
		Reference:   "cart-1042", Capture: contract.CaptureAutomatic, CreatedAt: contract.Time(at)}
	manual := plain
	manual.Capture, manual.AwaitInventory, manual.OnInsufficient, manual.ExpiresAt = contract.CaptureManual, true,
		contract.OnInsufficientWait, (*contract.Time)(&deadline)
	about := func(eventType string) kafka.Event {
		return kafka.Event{ID: contract.EventID(eventType, orderID, 1).String(), Type: eventType, Source: "/orders",
			Subject: orderID.String()}
	}
	all["order.placed"] = event(about(contract.OrderPlacedType), plain)
	all["order.placed.manual"] = event(about(contract.OrderPlacedType), manual)
	owned, ofShop := plain, about(contract.OrderPlacedType)
	owned.Owner, ofShop.Tenant = "alice", "shop"
	all["order.placed.owner"] = event(ofShop, owned)
	before := event(about(contract.OrderCancelledType),
		contract.Cancellation{Order: plain, Reason: "the client changed its mind",
			CancelledAt: contract.Time(at.Add(time.Minute))})
	delete(before.Headers, "ce_tenant")
	all["order.cancelled"] = before
	all["order.cancelled.note"] = event(about(contract.OrderCancelledType), contract.Cancellation{Order: plain,
		Reason: contract.ReasonCancelled, Note: "the client changed its mind",
		CancelledAt: contract.Time(at.Add(time.Minute))})

	for name, status := range map[string]string{"inventory.completed": contract.InventoryCompleted,
		"inventory.failed": contract.InventoryFailed} {
		all[name] = example{Payload: contract.Inventory{IdempotentKey: commandID, OrderID: orderID, Status: status}}
	}
	unknown := about("order.teleported")
	all["dead_letter"] = message(kafka.DeadLetter(kafka.Message{
		Topic: contract.TopicOrders, Partition: 2, Offset: 1041, Headers: unknown.Headers(),
	}, `no such event on this topic: ce_type "order.teleported"`), plain)
}

func payments(all map[string]example) {
	for name, p := range map[string]struct {
		eventType string
		payment   contract.Payment
	}{
		"payment.created": {contract.PaymentCreatedType, contract.Payment{
			Capture: contract.CaptureManual, Status: contract.PaymentCreated, CapturedAmount: "0.00", RefundedAmount: "0.00",
			Version: 1}},
		"payment.authorized": {contract.PaymentAuthorizedType, contract.Payment{
			Capture: contract.CaptureManual, Status: contract.PaymentAuthorized, CapturedAmount: "0.00", RefundedAmount: "0.00",
			Version: 2}},
		"payment.succeeded": {contract.PaymentSucceededType, contract.Payment{
			Capture: contract.CaptureAutomatic, Status: contract.PaymentSucceeded, CapturedAmount: "2500.00",
			RefundedAmount: "0.00", Version: 1}},
		"payment.succeeded.partly": {contract.PaymentSucceededType, contract.Payment{
			Capture: contract.CaptureManual, Status: contract.PaymentSucceeded, CapturedAmount: "1800.00",
			RefundedAmount: "0.00", Version: 3}},
		"payment.failed": {contract.PaymentFailedType, contract.Payment{Capture: contract.CaptureAutomatic,
			Status: contract.PaymentFailed, Reason: "insufficient_funds", CapturedAmount: "0.00", RefundedAmount: "0.00",
			Version: 1}},
		"payment.cancelled": {contract.PaymentCancelledType, contract.Payment{
			Capture: contract.CaptureAutomatic, Status: contract.PaymentCancelled, CapturedAmount: "2500.00",
			RefundedAmount: "2500.00", Version: 2}},
		"payment.refunded": {contract.PaymentRefundedType, contract.Payment{
			Capture: contract.CaptureAutomatic, Status: contract.PaymentRefunded, CapturedAmount: "2500.00",
			RefundedAmount: "700.00", Version: 2}},
		"payment.cancelled.note": {contract.PaymentCancelledType, contract.Payment{
			Capture: contract.CaptureAutomatic, Status: contract.PaymentCancelled, Reason: contract.ReasonCancelled,
			Note: "the client changed its mind", CapturedAmount: "2500.00", RefundedAmount: "2500.00", Version: 2}},
		"payment.refunded.note": {contract.PaymentRefundedType, contract.Payment{
			Capture: contract.CaptureAutomatic, Status: contract.PaymentRefunded, Note: "one ticket was returned",
			CapturedAmount: "2500.00", RefundedAmount: "700.00", Version: 2}},
	} {
		state := p.payment
		state.OrderID, state.AccountID, state.Amount, state.Currency, state.CreatedAt = orderID, alice, "2500.00", "RUB",
			contract.Time(at)
		state.UpdatedAt = contract.Time(at.Add(time.Duration(state.Version-1) * time.Minute))
		all[name] = event(kafka.Event{ID: contract.EventID(p.eventType, orderID, state.Version).String(), Type: p.eventType,
			Source: "/payments", Subject: orderID.String()}, state)
	}
	head := contract.LedgerHead{Number: 52_417, At: contract.Time(at),
		Hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}
	all["ledger.head"] = event(kafka.Event{ID: contract.EventID(contract.LedgerHeadType, uuid.Nil, head.Number).String(),
		Type: contract.LedgerHeadType, Source: "/payments"}, head)
}

// holdID names the hold of the example command that sets money aside.
var holdID = contract.DerivedID(contract.TopicCommands, alice, commandID.String())

func commands(all map[string]example) {
	for _, c := range []contract.Command{
		{Operation: "create_account", ID: &alice, Owner: "alice", Reference: "customer-42"},
		{Operation: "deposit", AccountID: &alice, Amount: "777.00", Currency: "RUB", Reference: "invoice-7",
			Description: "January"},
		{Operation: "withdraw", AccountID: &alice, Amount: "100.00", Currency: "RUB"},
		{Operation: "transfer", FromAccountID: &alice, ToAccountID: &bob, Amount: "111.00", Currency: "RUB",
			Description: "Dinner"},
		{Operation: "hold", AccountID: &alice, Amount: "60.00", Currency: "RUB", ExpiresIn: "15m"},
		{Operation: "capture", HoldID: &holdID, Amount: "25.00"},
		{Operation: "release", HoldID: &holdID},
		{Operation: "cancel", OperationID: &holdID, Reason: "no longer needed"},
		{Operation: "balance", AccountID: &alice},
		{Operation: contract.Invoice, WalletID: &alice, Amount: "777.00", Ticker: "RUB", OrderID: "invoice-7"},
	} {
		c.CommandID = &commandID
		all["command."+c.Operation] = example{Payload: c}
	}
	withdraw := all["command.withdraw"]
	withdraw.Headers = map[string]string{contract.ReplyToHeader: contract.ReplyToPrefix + "shop", "traceparent": trace}
	all["command.withdraw"] = withdraw
}

func replies(all map[string]example) {
	operationID := contract.DerivedID(contract.TopicCommands, alice, commandID.String())
	reply := func(name string, subject uuid.UUID, r contract.Reply) {
		all["reply."+name] = event(kafka.Event{ID: contract.EventID(contract.ReplyType, subject, 1).String(),
			Type:   contract.ReplyType,
			Source: "/payments", Subject: subject.String()}, r)
	}
	done := func(o contract.Operation) {
		o.ID, o.AccountID, o.CommandID, o.Currency, o.Status, o.CreatedAt, o.SettledAt = operationID, alice, commandID, "RUB",
			"success", contract.Time(at), contract.Time(at.Add(4*time.Millisecond))
		reply(o.Operation, operationID,
			contract.Reply{CommandID: &commandID, Operation: o.Operation, OperationID: &operationID,
				Code: 201, Status: "success", Body: o})
	}
	done(contract.Operation{Operation: "deposit", Amount: "777.00", Reference: "invoice-7", Description: "January"})
	done(contract.Operation{Operation: "transfer", Amount: "111.00", ToAccountID: bob, Description: "Dinner"})
	done(contract.Operation{Operation: "capture", Amount: "25.00", HoldID: holdID})
	reply("cancel", commandID, contract.Reply{CommandID: &commandID, Operation: "cancel", OperationID: &operationID,
		Code:   200,
		Status: "success", Body: contract.Operation{ID: operationID, Operation: "withdraw", AccountID: alice,
			CommandID: commandID,
			Amount:    "100.00", Currency: "RUB", Status: "error", Reason: "cancelled", Note: "no longer needed",
			CreatedAt: contract.Time(at), SettledAt: contract.Time(at.Add(time.Hour))}})
	reply("cancelled", operationID, contract.Reply{CommandID: &commandID, Operation: "withdraw", OperationID: &operationID,
		Code: 422, Status: "error", Reason: "cancelled"})
	reply("create_account", operationID,
		contract.Reply{CommandID: &commandID, Operation: "create_account", OperationID: &operationID,
			Code: 201, Status: "success",
			Body: contract.Account{ID: alice, Owner: "alice", Reference: "customer-42", CreatedAt: contract.Time(at),
				Balances: []contract.Balance{}}})
	reply("balance", commandID, contract.Reply{CommandID: &commandID, Operation: "balance", Code: 200, Status: "success",
		Body: contract.Balances{Actual: map[string]string{"RUB": "666.00", "USDT": "12.500000"},
			Frozen: map[string]string{"RUB": "60.00", "USDT": "0.000000"}}})
	reply("insufficient_funds", operationID,
		contract.Reply{CommandID: &commandID, Operation: "withdraw", OperationID: &operationID,
			Code: 422, Status: "error", Reason: "insufficient_funds"})
	reply("validation_failed", commandID,
		contract.Reply{CommandID: &commandID, Operation: "invoice", Code: 400, Status: "error",
			Reason: "validation_failed", Detail: "amount must be greater than zero"})
	reply("without_id", commandID, contract.Reply{Operation: "deposit", Code: 400, Status: "error",
		Reason: "validation_failed", Detail: "command_id must be a UUID"})
}
