package system

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/deploy/audit"
	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

const changedMind = "the client changed its mind"

// soon is a deadline that comes while a test waits for it, and not before its order is where the test wants it.
const soon = "8s"

// Sagas of every kind at the same time, through the gateway, while every message on the topics comes twice,
// on two instances of payments.
func TestSagas(t *testing.T) {
	onEachBroker(t, func(t *testing.T, kind localkafka.Kind) {
		s := newSaga(t, kind, stack.Instances(1, 2, 0))
		s.duplicate(contract.TopicOrders, contract.TopicPayments, contract.TopicInventory)
		t.Run("sagas", func(t *testing.T) {
			for name, scenario := range map[string]func(*saga){
				"confirmed": (*saga).confirmed, "confirmed in part": (*saga).confirmedInPart, "rejected": (*saga).rejected,
				"hold expires": (*saga).holdExpires, "refunds": (*saga).refunds, "cancelled": (*saga).cancelled,
				"goods": (*saga).goods, "early goods": (*saga).earlyGoods, "goods expire": (*saga).goodsExpire,
				"money": (*saga).money, "wait expires": (*saga).waitExpires, "bad steps": (*saga).badSteps,
				"at rest": (*saga).atRest,
			} {
				t.Run(name, func(t *testing.T) { t.Parallel(); scenario(s.on(t)) })
			}
		})
		if t.Failed() {
			return
		}
		s.overtaken()
		if _, err := audit.AtRest(t.Context(), s.orders, s.payments, s.services()); err != nil {
			t.Fatalf("the books are wrong: %v", err)
		}
		// By now each message has been sent again, and the copies change nothing when they come late.
		var placed, told int
		if err := errors.Join(
			s.orders.Get(&placed, `SELECT count(*) + (SELECT count(*) FROM order_history WHERE to_status = 'cancelling'
				AND from_status <> 'cancelling') FROM orders`),
			s.payments.Get(&told, `SELECT sum(version) FROM payments`)); err != nil {
			t.Fatal(err)
		}
		s.duplicated(contract.TopicOrders, 2*placed)
		s.duplicated(contract.TopicPayments, 2*told)
		if _, err := audit.AtRest(t.Context(), s.orders, s.payments, s.services()); err != nil {
			t.Fatalf("the books are wrong after every message came twice: %v", err)
		}
		s.unchanged()
		s.watched(t, "gateway", "orders", "payments")
		s.auditSees()
	})
}

func (s *saga) confirmed() {
	account := s.account("100.00")
	var order load.Order
	if err := s.post(load.OrdersPath+"?wait=20s", uuid.NewString(),
		load.NewOrder{AccountID: account, Amount: "60.00", Currency: "RUB",
			Capture: contract.CaptureManual}, &order); err != nil || order.Status != "authorized" {
		s.Fatalf("%+v, %v", order, err)
	}
	s.balance(account, "40.00", "60.00")
	s.payment(order.ID, contract.PaymentAuthorized, "", "0.00", "0.00")
	var hold struct {
		Status  string    `json:"status"`
		OrderID uuid.UUID `json:"order_id"`
	}
	if s.get("/api/v1/holds/"+order.ID.String(), &hold); hold.Status != "open" || hold.OrderID != order.ID {
		s.Errorf("hold %+v", hold)
	}
	for _, step := range []string{"capture", "release"} {
		s.refused(s.post("/api/v1/holds/"+order.ID.String()+"/"+step, uuid.NewString(), struct{}{}, nil), 422,
			"hold_of_order")
	}
	_, err := s.client.Refund(s.Context(), uuid.NewString(), order.ID, "")
	s.refused(err, 422, "payment_not_captured")

	key := uuid.NewString()
	for range 2 { // the same request, and then it is repeated
		p, err := s.client.Confirm(s.Context(), key, order.ID, "")
		if err != nil || p.Status != contract.PaymentSucceeded || p.CapturedAmount != "60.00" || p.Version != 2 {
			s.Errorf("%+v, %v", p, err)
		}
	}
	_, err = s.client.Confirm(s.Context(), key, order.ID, "1.00")
	s.refused(err, 422, "idempotency_key_reused")
	_, err = s.client.Confirm(s.Context(), uuid.NewString(), order.ID, "")
	s.refused(err, 422, "payment_not_authorized")
	if paid := s.await(order.ID, "paid", ""); paid.CapturedAmount != "60.00" || paid.RefundedAmount != "0.00" {
		s.Errorf("%+v", paid)
	}
	s.balance(account, "40.00", "0.00")
	s.timeline(order.ID, "pending", "authorized", "paid")
}

func (s *saga) confirmedInPart() {
	account := s.account("100.00")
	order := s.place(load.NewOrder{AccountID: account, Amount: "60.00", Capture: contract.CaptureManual})
	s.await(order, "authorized", "")
	key := uuid.NewString()
	for range 2 {
		_, err := s.client.Confirm(s.Context(), key, order, "60.01")
		s.refused(err, 422, "amount_exceeds_hold")
	}
	p, err := s.client.Confirm(s.Context(), uuid.NewString(), order, "45.50")
	if err != nil || p.Status != contract.PaymentSucceeded || p.CapturedAmount != "45.50" {
		s.Errorf("%+v, %v", p, err)
	}
	s.await(order, "paid", "")
	s.balance(account, "54.50", "0.00")
	_, err = s.client.Refund(s.Context(), uuid.NewString(), order, "45.51")
	s.refused(err, 422, "amount_exceeds_captured")
}

func (s *saga) rejected() {
	account := s.account("100.00")
	order := s.place(load.NewOrder{AccountID: account, Amount: "60.00", Capture: contract.CaptureManual})
	s.await(order, "authorized", "")
	p, err := s.client.Reject(s.Context(), uuid.NewString(), order, "looks like fraud")
	if err != nil || p.Status != contract.PaymentFailed {
		s.Errorf("%+v, %v", p, err)
	}
	s.await(order, "failed", "rejected")
	s.balance(account, "100.00", "0.00")
	s.timeline(order, "pending", "authorized", "failed rejected looks like fraud")
	_, err = s.client.Cancel(s.Context(), uuid.NewString(), order, "")
	s.refused(err, 422, "order_failed")
	_, err = s.client.Confirm(s.Context(), uuid.NewString(), order, "")
	s.refused(err, 422, "payment_not_authorized")
}

func (s *saga) holdExpires() {
	account := s.account("100.00")
	order := s.place(load.NewOrder{AccountID: account, Amount: "60.00", Capture: contract.CaptureManual, ExpiresIn: soon})
	s.await(order, "authorized", "")
	s.await(order, "failed", "expired")
	s.balance(account, "100.00", "0.00")
	s.payment(order, contract.PaymentFailed, "expired", "0.00", "0.00")
	s.timeline(order, "pending", "authorized", "failed expired")
	_, err := s.client.Confirm(s.Context(), uuid.NewString(), order, "")
	s.refused(err, 422, "payment_not_authorized")
}

func (s *saga) refunds() {
	account := s.account("100.00")
	// A deadline is for capturing: what is captured stays.
	order := s.place(load.NewOrder{AccountID: account, Amount: "60.00", ExpiresIn: soon})
	s.await(order, "paid", "")
	for _, step := range []struct{ amount, refunded, code string }{
		{"20.00", "20.00", ""}, {"40.01", "", "amount_exceeds_captured"}, {"15.50", "35.50", ""}, {"", "60.00", ""},
		{"0.01", "", "amount_exceeds_captured"},
	} {
		p, err := s.client.Refund(s.Context(), uuid.NewString(), order, step.amount)
		if step.code != "" {
			s.refused(err, 422, step.code)
		} else if err != nil || p.Status != contract.PaymentRefunded || p.RefundedAmount != step.refunded ||
			p.CapturedAmount != "60.00" {
			s.Errorf("refund %q: %+v, %v", step.amount, p, err)
		}
	}
	s.eventually(func() error {
		if order := s.await(order, "paid", ""); order.RefundedAmount != "60.00" {
			return fmt.Errorf("%+v", order)
		}
		return nil
	})
	s.balance(account, "100.00", "0.00")
	s.timeline(order, "pending", "paid", "paid refunded", "paid refunded", "paid refunded")
}

// An order is cancelled at each of its stages, and all money is back.
func (s *saga) cancelled() {
	for name, stage := range map[string]struct {
		order              load.NewOrder
		status, why        string
		refund             string
		captured, refunded string
		before             []string
	}{
		"waiting for goods": {order: load.NewOrder{Amount: "60.00", AwaitInventory: true}, status: "pending",
			why:      "waiting_for_inventory",
			captured: "0.00", refunded: "0.00", before: []string{"pending", "pending waiting_for_inventory"}},
		"waiting for money": {order: load.NewOrder{Amount: "100.01", OnInsufficient: contract.OnInsufficientWait},
			status: "pending", why: "waiting_for_funds",
			captured: "0.00", refunded: "0.00", before: []string{"pending", "pending waiting_for_funds"}},
		"authorized": {order: load.NewOrder{Amount: "60.00", Capture: contract.CaptureManual}, status: "authorized",
			captured: "0.00", refunded: "0.00", before: []string{"pending", "authorized"}},
		"paid": {order: load.NewOrder{Amount: "60.00"}, status: "paid", captured: "60.00", refunded: "60.00",
			before: []string{"pending", "paid"}},
		"refunded in part": {order: load.NewOrder{Amount: "60.00"}, status: "paid", refund: "12.00", captured: "60.00",
			refunded: "60.00",
			before:   []string{"pending", "paid", "paid refunded"}},
	} {
		s.Run(name, func(t *testing.T) {
			t.Parallel()
			s := s.on(t)
			account := s.account("100.00")
			stage.order.AccountID = account
			order := s.place(stage.order)
			s.await(order, stage.status, stage.why)
			var behind uuid.UUID
			if stage.why == "waiting_for_funds" {
				behind = s.waits("/api/v1/accounts/"+account.String()+"/withdrawals", amount("100.00"))
			}
			if stage.refund != "" {
				if _, err := s.client.Refund(t.Context(), uuid.NewString(), order, stage.refund); err != nil {
					t.Fatal(err)
				}
				s.eventually(func() error {
					if order := s.await(order, "paid", ""); order.RefundedAmount != stage.refund {
						return fmt.Errorf("%+v", order)
					}
					return nil
				})
			}
			key := uuid.NewString()
			if o, err := s.client.Cancel(t.Context(), key, order, changedMind); err != nil ||
				o.Status != "cancelling" && o.Status != "cancelled" {
				t.Fatalf("%+v, %v", o, err)
			}
			if o := s.await(order, "cancelled", "cancelled"); o.Note != changedMind || o.CapturedAmount != stage.captured ||
				o.RefundedAmount != stage.refunded {
				t.Errorf("%+v", o)
			}
			s.payment(order, contract.PaymentCancelled, "cancelled", stage.captured, stage.refunded)
			if behind != uuid.Nil { // whose turn it is now
				s.settled(behind, "")
				s.balance(account, "0.00", "0.00")
			} else {
				s.balance(account, "100.00", "0.00")
			}
			// Nothing more happens to it.
			for _, key := range []string{key, uuid.NewString()} {
				if o, err := s.client.Cancel(t.Context(), key, order, changedMind); err != nil || o.Status != "cancelled" {
					t.Errorf("cancelled again: %+v, %v", o, err)
				}
			}
			_, err := s.client.Confirm(t.Context(), uuid.NewString(), order, "")
			s.refused(err, 422, "payment_not_authorized")
			_, err = s.client.Refund(t.Context(), uuid.NewString(), order, "")
			s.refused(err, 422, "payment_not_captured", "amount_exceeds_captured")
			s.timeline(order, append(stage.before, "cancelling cancelled "+changedMind, "cancelled cancelled "+changedMind)...)
		})
	}
}

// Goods that are there let the payment go on, goods that are not end it; what comes later, comes again or says
// something else does nothing.
func (s *saga) goods() {
	account := s.account("100.00")
	wait := load.NewOrder{AccountID: account, Amount: "10.00", AwaitInventory: true}
	manual, poor, patient := wait, wait, wait
	manual.Capture = contract.CaptureManual
	poor.Amount, patient.Amount, patient.OnInsufficient = "100.00", "101.00", contract.OnInsufficientWait
	there, gone, held, short, waiting := s.place(wait), s.place(wait), s.place(manual), s.place(poor), s.place(patient)
	for _, order := range []uuid.UUID{there, gone, held, short, waiting} {
		s.await(order, "pending", "waiting_for_inventory")
		s.payment(order, contract.PaymentCreated, "waiting_for_inventory", "0.00", "0.00")
		_, err := s.client.Confirm(s.Context(), uuid.NewString(), order, "")
		s.refused(err, 422, "payment_not_authorized")
	}
	// Waiting for goods does not stop the account.
	if err := s.post("/api/v1/accounts/"+account.String()+"/withdrawals", uuid.NewString(), amount("1.00"),
		nil); err != nil {
		s.Error(err)
	}
	completed, failed := goods(there, contract.InventoryCompleted), goods(gone, contract.InventoryFailed)
	s.inventory(account, goods(there, "RESERVED"), goods(gone, "completed"), completed, failed,
		goods(held, contract.InventoryCompleted))
	s.await(there, "paid", "")
	s.timeline(there, "pending", "pending waiting_for_inventory", "pending inventory_completed", "paid")
	s.await(gone, "failed", "out_of_stock")
	s.timeline(gone, "pending", "pending waiting_for_inventory", "failed out_of_stock")
	s.await(held, "authorized", "")
	s.inventory(account, completed, failed, goods(there, contract.InventoryFailed),
		goods(gone, contract.InventoryCompleted),
		goods(held, contract.InventoryFailed), goods(uuid.New(), contract.InventoryCompleted),
		goods(short, contract.InventoryCompleted))
	s.await(short, "failed", "insufficient_funds")
	s.timeline(short, "pending", "pending waiting_for_inventory", "pending inventory_completed",
		"failed insufficient_funds")
	s.inventory(account, goods(waiting, contract.InventoryCompleted))
	s.await(waiting, "pending", "waiting_for_funds")
	s.balance(account, "79.00", "10.00")
	if err := s.post("/api/v1/accounts/"+account.String()+"/deposits", uuid.NewString(), amount("30.00"),
		nil); err != nil {
		s.Error(err)
	}
	s.await(waiting, "paid", "")
	s.timeline(waiting, "pending", "pending waiting_for_inventory", "pending inventory_completed",
		"pending waiting_for_funds", "paid")
	s.balance(account, "8.00", "10.00")
}

// The inventory system may be faster than the order. Nothing is told of its message, so another one behind it on the
// same partition says when it was taken in.
func (s *saga) earlyGoods() {
	account, key := s.account("100.00"), uuid.NewString()
	early := contract.DerivedID(load.OrdersPath, account, key)
	outOfStock := contract.DerivedID(load.OrdersPath, account, key+"-2")
	order := load.NewOrder{AccountID: account, Amount: "10.00", Currency: "RUB", AwaitInventory: true}
	behind := s.place(order)
	s.inventory(account, goods(early, contract.InventoryCompleted), goods(outOfStock, contract.InventoryFailed),
		goods(behind, contract.InventoryCompleted))
	s.await(behind, "paid", "")
	for key, id := range map[string]uuid.UUID{key: early, key + "-2": outOfStock} {
		if placed, err := s.client.Place(s.Context(), key, order); err != nil || placed.ID != id {
			s.Fatalf("%+v, %v", placed, err)
		}
	}
	s.await(early, "paid", "")
	s.await(outOfStock, "failed", "out_of_stock")
	s.balance(account, "80.00", "0.00")
}

func (s *saga) goodsExpire() {
	account := s.account("100.00")
	order := s.place(load.NewOrder{AccountID: account, Amount: "10.00", AwaitInventory: true, ExpiresIn: soon})
	s.await(order, "pending", "waiting_for_inventory")
	s.await(order, "failed", "expired")
	s.timeline(order, "pending", "pending waiting_for_inventory", "failed expired")
	s.inventory(account, goods(order, contract.InventoryCompleted)) // too late
	s.balance(account, "100.00", "0.00")
}

// What waits for money stops what is behind it, and nothing else; money from anywhere lets it go on, in its order.
func (s *saga) money() {
	account, other := s.account("10.00"), s.account("200.00")
	for contract.Lane(account) == contract.Lane(other) {
		other = s.account("200.00")
	}
	path := "/api/v1/accounts/" + account.String()
	order := s.place(load.NewOrder{AccountID: account, Amount: "100.00", OnInsufficient: contract.OnInsufficientWait})
	s.await(order, "pending", "waiting_for_funds")
	s.payment(order, contract.PaymentCreated, "waiting_for_funds", "0.00", "0.00")
	queue := []uuid.UUID{order, s.waits(path+"/withdrawals", amount("5.00"))}
	held := s.place(load.NewOrder{AccountID: account, Amount: "20.00", Capture: contract.CaptureManual})
	s.await(held, "pending", "waiting_for_funds")
	queue = append(queue, held, s.waits(path+"/holds", amount("5.00")),
		s.waits("/api/v1/transfers", amount("1.00", "from_account_id", account.String(), "to_account_id", other.String())),
		s.waits(path+"/withdrawals", amount("900.00")),
		s.waits(path+"/withdrawals", amount("500.00", "on_insufficient", "wait", "expires_in", "10m")))

	// Another currency is another queue; credits pass, even too small ones.
	dollars := map[string]string{"amount": "5.00", "currency": "USD"}
	if err := errors.Join(s.post(path+"/deposits", uuid.NewString(), dollars, nil),
		s.post(path+"/withdrawals", uuid.NewString(), dollars, nil),
		s.post(path+"/deposits", uuid.NewString(), amount("50.00"), nil)); err != nil {
		s.Error(err)
	}
	s.await(order, "pending", "waiting_for_funds")
	s.balance(account, "60.00", "0.00")
	if err := s.post("/api/v1/transfers", uuid.NewString(),
		amount("100.00", "from_account_id", other.String(), "to_account_id", account.String()), nil); err != nil {
		s.Error(err)
	}
	s.await(order, "paid", "")
	s.timeline(order, "pending", "pending waiting_for_funds", "paid")
	s.await(held, "authorized", "")
	s.timeline(held, "pending", "pending waiting_for_funds", "authorized")
	for i, want := range []string{"", "", "", "", "", "insufficient_funds"} {
		s.settled(queue[i], want)
	}
	s.balance(account, "29.00", "25.00")
	s.balance(other, "101.00", "0.00")
	var entries struct {
		Items []struct {
			OperationID uuid.UUID `json:"operation_id"`
			Currency    string    `json:"currency"`
			Amount      string    `json:"amount"`
		} `json:"items"`
	}
	s.get(path+"/entries", &entries)
	next := 0
	for _, entry := range entries.Items {
		if entry.Currency == "RUB" && entry.Amount[0] == '-' {
			if entry.OperationID != queue[next] {
				s.Fatalf("entries %+v are not in the order %v", entries.Items, queue)
			}
			next++
		}
	}
	if next != 5 {
		s.Errorf("entries %+v, want 5 debits", entries.Items)
	}
	// A rejected hold is money that comes back.
	last := queue[6]
	var op contract.Operation
	if s.get("/api/v1/operations/"+last.String(), &op); op.Status != "created" || op.Reason != "waiting_for_funds" {
		s.Errorf("%+v", op)
	}
	if err := s.post(path+"/deposits", uuid.NewString(), amount("460.00"), nil); err != nil {
		s.Error(err)
	}
	if _, err := s.client.Reject(s.Context(), uuid.NewString(), held, ""); err != nil {
		s.Error(err)
	}
	s.settled(last, "")
	s.await(held, "failed", "rejected")
	s.balance(account, "9.00", "5.00")
}

func (s *saga) waitExpires() {
	account := s.account("10.00")
	path, key := "/api/v1/accounts/"+account.String()+"/withdrawals", uuid.NewString()
	first := amount("100.00", "on_insufficient", "wait", "expires_in", soon)
	if err := s.post(path, key, first, nil); err != nil {
		s.Fatal(err)
	}
	order := s.place(load.NewOrder{AccountID: account, Amount: "50.00", OnInsufficient: contract.OnInsufficientWait,
		ExpiresIn: soon})
	behind := s.waits(path, amount("4.00"))
	s.await(order, "failed", "expired")
	s.timeline(order, "pending", "pending waiting_for_funds", "failed expired")
	s.settled(behind, "")
	s.balance(account, "6.00", "0.00")
	s.refused(s.post(path, key, first, nil), 422, "expired")
}

// badSteps are those of orders that are not there, and those that say nothing that can be understood.
func (s *saga) badSteps() {
	nobody := uuid.New()
	_, err := s.client.Cancel(s.Context(), uuid.NewString(), nobody, "")
	s.refused(err, 404, "order_not_found")
	for _, step := range []string{"confirm", "reject", "refund"} {
		s.refused(s.post("/api/v1/payments/"+nobody.String()+"/"+step, uuid.NewString(), struct{}{}, nil), 404,
			"payment_not_found")
	}
	s.refused(s.client.Get(s.Context(), "/api/v1/payments/"+nobody.String(), nil), 404, "payment_not_found")
	account := s.account("10.00")
	order := s.place(load.NewOrder{AccountID: account, Amount: "10.00", Capture: contract.CaptureManual})
	s.await(order, "authorized", "")
	for _, amount := range []string{"0.00", "-1.00", "0.001", "ten"} {
		_, err := s.client.Confirm(s.Context(), uuid.NewString(), order, amount)
		s.refused(err, 400, "validation_failed")
	}
	for _, in := range []string{"0s", "-1s", "soon"} {
		_, err := s.client.Place(s.Context(), uuid.NewString(),
			load.NewOrder{AccountID: account, Amount: "1.00", Currency: "RUB", ExpiresIn: in})
		s.refused(err, 400, "validation_failed")
	}
	var text [201]byte
	_, err = s.client.Cancel(s.Context(), uuid.NewString(), order, fmt.Sprintf("%x", text))
	s.refused(err, 400, "validation_failed")
	s.await(order, "authorized", "")
	s.balance(account, "0.00", "10.00")
}

// atRest leaves an order at each place where it may stay for long.
func (s *saga) atRest() {
	account := s.account("100.00")
	s.await(s.place(load.NewOrder{AccountID: account, Amount: "10.00", Capture: contract.CaptureManual}), "authorized", "")
	s.await(s.place(load.NewOrder{AccountID: account, Amount: "10.00", AwaitInventory: true}), "pending",
		"waiting_for_inventory")
	s.await(s.place(load.NewOrder{AccountID: account, Amount: "91.00", OnInsufficient: contract.OnInsufficientWait}),
		"pending", "waiting_for_funds")
}

// overtaken has a cancellation arrive before its order: while the broker is down both wait in the outbox of
// orders, where they change places.
func (s *saga) overtaken() {
	s.Helper()
	account := s.account("10.00")
	if err := s.Kill(stack.KafkaName); err != nil {
		s.Fatal(err)
	}
	order := s.place(load.NewOrder{AccountID: account, Amount: "10.00"})
	if o, err := s.client.Cancel(s.Context(), uuid.NewString(), order, changedMind); err != nil ||
		o.Status != "cancelling" {
		s.Fatalf("%+v, %v", o, err)
	}
	// The process that has read the outbox already must not be the one that publishes it.
	if err := s.Kill(stack.Orders); err != nil {
		s.Fatal(err)
	}
	moved, err := s.orders.ExecContext(s.Context(),
		`UPDATE outbox SET seq = DEFAULT WHERE strpos(messages, $1) > 0 AND strpos(messages, $2) > 0`,
		order.String(), contract.OrderPlacedType)
	if err != nil {
		s.Fatal(err)
	}
	if n, err := moved.RowsAffected(); err != nil || n != 1 {
		s.Fatalf("%d orders moved, %v", n, err)
	}
	if err := errors.Join(s.Restart(stack.KafkaName), s.Restart(stack.Orders), s.WaitReady(s.Context())); err != nil {
		s.Fatal(err)
	}
	s.await(order, "cancelled", "cancelled")
	s.timeline(order, "pending", "cancelling cancelled "+changedMind, "cancelled cancelled "+changedMind)
	s.payment(order, contract.PaymentCancelled, "cancelled", "0.00", "0.00")
	// The order comes after its end and changes nothing; the audit looks at what was earned by it.
	next := s.place(load.NewOrder{AccountID: account, Amount: "10.00"})
	s.await(next, "paid", "")
	s.balance(account, "0.00", "0.00")
}

// auditSees breaks the books in one place after another, and the audit finds each.
func (s *saga) auditSees() {
	s.Helper()
	const (
		succeeded  = `SELECT order_id FROM payments WHERE status = 'succeeded' AND refunded = 0 LIMIT 1`
		authorized = `SELECT order_id FROM payments WHERE status = 'authorized' LIMIT 1`
		waiting    = `SELECT order_id FROM payments WHERE status = 'created' AND reason = 'waiting_for_funds' LIMIT 1`
		goods      = `SELECT order_id FROM payments WHERE status = 'created' AND reason = 'waiting_for_inventory' LIMIT 1`
		waiter     = `SELECT account_id FROM balances WHERE waiting > 0 LIMIT 1`
		cancelled  = `SELECT order_id FROM order_history WHERE (from_status, to_status) = ('paid', 'cancelling') LIMIT 1`
		paid       = `SELECT id FROM orders WHERE status = 'paid' AND refunded = 0 LIMIT 1`
	)
	for _, fault := range []struct {
		db                       *sqlx.DB
		which, spoil, mend, want string
	}{
		{s.payments, succeeded, `UPDATE payments SET refunded = 1 WHERE order_id = $1`,
			`UPDATE payments SET refunded = 0 WHERE order_id = $1`,
			"[payment_money]"},
		{s.payments, authorized, `UPDATE payments SET status = 'failed' WHERE order_id = $1`,
			`UPDATE payments SET status = 'authorized' WHERE order_id = $1`,
			"[payment_hold]"},
		{s.payments, authorized, `UPDATE holds SET amount = amount + 1 WHERE id = $1`,
			`UPDATE holds SET amount = amount - 1 WHERE id = $1`,
			"[payment_hold]"},
		{s.payments, waiting, `UPDATE waits SET what = 'waiting_for_inventory' WHERE id = $1`,
			`UPDATE waits SET what = 'waiting_for_funds' WHERE id = $1`,
			"[payment_waits]"},
		{s.payments, waiting, `
			UPDATE operations SET status = 'error', reason = 'expired', settled_at = created_at WHERE id = $1`,
			`UPDATE operations SET status = 'created', reason = 'waiting_for_funds', settled_at = NULL
				WHERE id = $1`, "[wait_operation]"},
		{s.payments, waiter, `UPDATE balances SET waiting = waiting + 1 WHERE account_id = $1`,
			`UPDATE balances SET waiting = waiting - 1 WHERE account_id = $1`,
			"[balance_waits]"},
		{s.payments, waiter, `UPDATE balances SET actual = actual + 1000000 WHERE account_id = $1`,
			`UPDATE balances SET actual = actual - 1000000 WHERE account_id = $1`,
			"1 requests that wait for money which is there"},
		{s.payments, goods, `INSERT INTO inventory (order_id, idempotent_key, status, joined_at)
			VALUES ($1, $1, 'FAILED', now())`,
			`DELETE FROM inventory WHERE order_id = $1`, "1 payments that wait for goods of which there was word"},
		{s.orders, paid, `INSERT INTO cancellations VALUES ($1, NULL, $1, '', now())`,
			`DELETE FROM cancellations WHERE order_id = $1`,
			"[order_cancellation]"},
		{s.orders, cancelled, `UPDATE order_history
			SET from_status = 'authorized' WHERE order_id = $1 AND to_status = 'cancelling'`,
			`UPDATE order_history SET from_status = 'paid' WHERE order_id = $1 AND to_status = 'cancelling'`,
			"[history_follows]"},
		{s.orders, paid, `UPDATE orders SET version = version + 1 WHERE id = $1`,
			`UPDATE orders SET version = version - 1 WHERE id = $1`,
			"[order_history]"},
		{s.orders, paid, `UPDATE orders SET payment_version = payment_version + 1 WHERE id = $1`,
			`UPDATE orders SET payment_version = payment_version - 1 WHERE id = $1`,
			"1 orders whose history is not as long"},
		{s.orders, paid, `UPDATE orders SET captured = captured - 1 WHERE id = $1`,
			`UPDATE orders SET captured = captured + 1 WHERE id = $1`,
			"does not agree with its payment"},
	} {
		var id uuid.UUID
		if err := fault.db.Get(&id, fault.which); err != nil {
			s.Fatalf("%s: %v", fault.which, err)
		}
		if _, err := fault.db.Exec(fault.spoil, id); err != nil {
			s.Fatalf("%s: %v", fault.spoil, err)
		}
		if _, err := audit.Check(s.Context(), s.orders, s.payments, s.services()); err == nil ||
			!strings.Contains(err.Error(), fault.want) {
			s.Errorf("after %s the audit says: %v", fault.spoil, err)
		}
		if _, err := fault.db.Exec(fault.mend, id); err != nil {
			s.Fatalf("%s: %v", fault.mend, err)
		}
	}
	if _, err := audit.Check(s.Context(), s.orders, s.payments, s.services()); err != nil {
		s.Errorf("the books were not mended: %v", err)
	}
	// What the sums do not show, the chain does.
	const touch = `UPDATE operations SET amount = amount + $1 WHERE id = (SELECT min(id::text)::uuid FROM operations
		WHERE operation = 'deposit')`
	for _, change := range []int{1, -1} {
		s.payments.MustExec(touch, change)
		if err := s.verify(); (err != nil) != (change > 0) {
			s.Errorf("after a change by %d payments verify says: %v", change, err)
		}
	}
}
