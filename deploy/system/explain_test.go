package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/explain"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

// explained is a stack whose orders and operations are explained.
type explained struct {
	*saga
	token string
}

// view is what an explanation must say.
type view struct {
	status, says, next string // says is a part of the summary, next of what to do next
	stuck              bool
	steps              string // what has happened, in order; "" where that depends on what is settled together
}

// is expects an explanation to be like a view, sooner or later, and returns it.
func (s *explained) is(path string, id uuid.UUID, want view) (e explain.Explanation) {
	s.Helper()
	s.eventually(func() error {
		e = explain.Explanation{}
		if err := s.client.Call("GET", path+id.String()+"/explain", "", nil, &e); err != nil {
			return err
		}
		var steps []string
		for _, step := range e.Timeline {
			steps = append(steps, step.What)
		}
		got, next := strings.Join(steps, " "), strings.Join(e.Next, "\n")
		if e.ID != id || e.Status != want.status || e.Stuck != want.stuck || !strings.Contains(e.Summary, want.says) ||
			!strings.Contains(next, want.next) || want.steps != "" && got != want.steps {
			return fmt.Errorf("%s, stuck %v: %s\n%s\n%s\nwant %+v", e.Status, e.Stuck, e.Summary, next, got, want)
		}
		return nil
	})
	return e
}

func (s *explained) order(id uuid.UUID, want view) explain.Explanation {
	s.Helper()
	return s.is(load.OrdersPath+"/", id, want)
}

func (s *explained) operation(id uuid.UUID, want view) explain.Explanation {
	s.Helper()
	return s.is("/api/v1/operations/", id, want)
}

// entries expects the entries of an explanation: the actual balance before and after each, and the frozen one.
func (s *explained) entries(e explain.Explanation, want ...string) {
	s.Helper()
	var got []string
	for _, step := range e.Timeline {
		if entry := step.Entry; entry != nil {
			got = append(got, fmt.Sprintf("%s-%s %s-%s", entry.BalanceBefore, entry.BalanceAfter, entry.FrozenBefore,
				entry.FrozenAfter))
		}
	}
	if !slices.Equal(got, want) {
		s.Errorf("entries %q, want %q", got, want)
	}
}

func (s *explained) do(path string, body any) (op contract.Operation) {
	s.Helper()
	if err := s.post(path, uuid.NewString(), body, &op); err != nil {
		s.Fatalf("%s: %v", path, err)
	}
	return op
}

// exec changes what a database has until a row was changed.
func (s *explained) exec(db *sqlx.DB, statement string, args ...any) {
	s.Helper()
	s.eventually(func() error {
		result, err := db.Exec(statement, args...)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return fmt.Errorf("%s has changed no row: %w", statement, err)
		}
		return nil
	})
}

// refuse makes a database refuse changes of a table under a condition, until the function that it returns is called.
func (s *explained) refuse(db *sqlx.DB, table, condition string) (mend func()) {
	s.Helper()
	db.MustExec(`CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN RAISE EXCEPTION 'secret of the database'; END $$`)
	db.MustExec(`CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON ` + table + ` FOR EACH ROW WHEN (` + condition + `)
		EXECUTE FUNCTION refuse()`)
	return func() { db.MustExec(`DROP TRIGGER refuse ON ` + table) }
}

// operator has an operator do something on the plane of a service.
func (s *explained) operator(service, path string, body any) {
	s.Helper()
	token, err := s.Token(s.Context(), "operator", identity.DefaultTenant, string(identity.Operator))
	if err != nil {
		s.Fatal(err)
	}
	client := load.New(s.AdminURL(service)).As(token)
	defer client.Close()
	if err := client.Call("POST", "/admin/"+path, "", body, nil); err != nil {
		s.Fatalf("%s %s: %v", service, path, err)
	}
}

// as is the client of somebody else.
func (s *explained) as(subject, tenant string, scopes ...string) *load.Client {
	s.Helper()
	token, err := s.Token(s.Context(), subject, tenant, scopes...)
	if err != nil {
		s.Fatal(err)
	}
	return s.client.As(token)
}

// run runs altyn explain and expects its exit code.
func (s *explained) run(id uuid.UUID, code int, says string) {
	s.Helper()
	command := exec.CommandContext(s.Context(), filepath.Join(binaries, "altyn"), "explain", id.String(),
		"--gateway", s.URL("gateway"))
	command.Env = []string{"ALTYN_TOKEN=" + s.token}
	text, err := command.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	if got := command.ProcessState.ExitCode(); got != code || !strings.Contains(string(text), says) {
		s.Errorf("altyn explain %s: exit code %d, want %d and %q: %s", id, got, code, says, text)
	}
}

// The answer to "where is my money?" is right wherever an order or an operation may be.
func TestWhereIsMyMoney(t *testing.T) {
	services := append(stack.Instances(1, 1, 0), stack.Service{Name: stack.Issuer, Program: stack.Issuer})
	for i := range services {
		services[i].Env = append(slices.Clone(services[i].Env), "ORDERS_HEAL_AFTER=24h")
	}
	b := setup(t, localkafka.Embedded, services)
	token, err := b.Token(t.Context(), "somebody", identity.DefaultTenant, load.Scopes()...)
	if err != nil {
		t.Fatal(err)
	}
	s := &explained{&saga{b, b.newProducer(), &seen{orders: map[uuid.UUID]string{}}}, token}
	s.ends()
	s.waiting()
	s.operations()
	s.strangers()
	s.stopped()
	s.unapplied()
	s.brokerAway()
	s.paymentsAway()
}

// paidSteps is what happens to an order that is paid at once.
const paidSteps = "placed received settled entry event status"

// ends is about orders that have come to an end.
func (s *explained) ends() {
	account := s.account("100.00")
	paid := s.place(load.NewOrder{AccountID: account, Amount: "60.00"})
	e := s.order(paid, view{"paid", "60.00 RUB were taken.", "/refund", false, paidSteps})
	s.entries(e, "100.00-40.00 0.00-0.00")
	for _, step := range e.Timeline {
		comes := step.What == "received" || step.What == "status"
		if comes != strings.Contains(step.Detail, "published at 20") {
			s.Errorf("when %s: %s", step.What, step.Detail)
		}
	}
	if e.Order.PlacedBy != "somebody" || !e.Order.Keyed || len(e.TraceID) != 32 || e.Payment.Version != 1 ||
		len(e.Missing) > 0 {
		s.Errorf("%+v of %+v, missing %+v", e.Order, e.Payment, e.Missing)
	}
	s.run(paid, 0, "The order is paid: 60.00 RUB were taken.")
	s.run(uuid.New(), 1, "there is no order and no operation")

	poor := s.place(load.NewOrder{AccountID: account, Amount: "60.00"})
	s.order(poor, view{"failed", "the account had not enough money. Nothing was taken.", "Deposit money", false,
		"placed received settled event status"})
	s.run(poor, 0, "not enough money")
	nobody := s.place(load.NewOrder{AccountID: uuid.New(), Amount: "1.00"})
	s.order(nobody, view{"failed", "there is no such account", "account's ID", false,
		"placed received settled event status"})

	for _, refund := range []struct{ part, total string }{{"20.00", "20.00"}, {"5.00", "25.00"}} {
		if _, err := s.client.Refund(s.Context(), uuid.NewString(), paid, refund.part); err != nil {
			s.Fatal(err)
		}
		s.eventually(func() error { // orders hears of each by itself
			if o := s.bundle.order(paid); o.RefundedAmount != refund.total {
				return fmt.Errorf("refunded are %s", o.RefundedAmount)
			}
			return nil
		})
	}
	const refund = " received settled entry"
	refunded := s.order(paid, view{"paid", "60.00 RUB were taken, of which 25.00 RUB were refunded.", "/refund", false,
		"placed received settled entry status received settled entry status received settled entry event status"})
	s.entries(refunded, "100.00-40.00 0.00-0.00", "40.00-60.00 0.00-0.00", "60.00-65.00 0.00-0.00")
	if _, err := s.client.Cancel(s.Context(), uuid.NewString(), paid, changedMind); err != nil {
		s.Fatal(err)
	}
	e = s.order(paid, view{"cancelled", "All that was taken, 60.00 RUB, was returned.", "Nothing has to be done.", false,
		"placed received settled entry status" + refund + " status" + refund + " status status" + refund + " event status"})
	if !strings.Contains(e.Timeline[len(e.Timeline)-6].Detail, changedMind) {
		s.Errorf("the cancellation does not say why: %+v", e.Timeline)
	}

	held := s.place(load.NewOrder{AccountID: account, Amount: "60.00", Capture: contract.CaptureManual})
	s.entries(s.order(held, view{"authorized", "60.00 RUB are held until the payment is confirmed or rejected, until",
		"/confirm or /reject", false, paidSteps}), "100.00-40.00 0.00-60.00")
	if _, err := s.client.Confirm(s.Context(), uuid.NewString(), held, "40.00"); err != nil {
		s.Fatal(err)
	}
	s.entries(s.order(held, view{"paid", "of 60.00 RUB that were held, 40.00 RUB were taken; the rest was released.",
		"/refund", false, "placed received settled entry status" + refund + " event status"}),
		"100.00-40.00 0.00-60.00", "40.00-60.00 60.00-0.00")
	rejected := s.place(load.NewOrder{AccountID: account, Amount: "60.00", Capture: contract.CaptureManual})
	s.await(rejected, "authorized", "")
	if _, err := s.client.Reject(s.Context(), uuid.NewString(), rejected, changedMind); err != nil {
		s.Fatal(err)
	}
	s.order(rejected, view{"failed", "the payment was rejected. Nothing was taken.", "Nothing has to be done.", false,
		"placed received settled entry status" + refund + " event status"})
	during := s.place(load.NewOrder{AccountID: account, Amount: "60.00", Capture: contract.CaptureManual})
	s.await(during, "authorized", "")
	if _, err := s.client.Cancel(s.Context(), uuid.NewString(), during, ""); err != nil {
		s.Fatal(err)
	}
	s.order(during, view{"cancelled", "Nothing was taken, and nothing is held any more.", "Nothing has to be done.", false,
		"placed received settled entry status status" + refund + " event status"})
}

// waiting is about orders that wait, for goods and for money, and how that ends.
func (s *explained) waiting() {
	account := s.account("5.00")
	goods := func(expires string) uuid.UUID {
		return s.place(load.NewOrder{AccountID: account, Amount: "1.00", AwaitInventory: true, ExpiresIn: expires})
	}
	none, late := goods(""), goods("1s")
	e := s.order(none, view{"pending", "It waits for the goods, until", "COMPLETED", false,
		"placed received event status"})
	if e.Wait.For != contract.WaitingForInventory || e.Wait.Until.IsZero() {
		s.Errorf("it waits %+v", e.Wait)
	}
	bearer := []kafka.Header{{Key: contract.AuthorizationHeader, Value: []byte("Bearer " + s.token)}}
	if err := s.tellWith(bearer, none, contract.Inventory{IdempotentKey: uuid.New(), OrderID: none,
		Status: contract.InventoryFailed}); err != nil {
		s.Fatal(err)
	}
	const ended = "placed received status settled event status"
	s.order(none, view{"failed", "the goods are not there", "Place another order", false, ended})

	patient := func(amount string) uuid.UUID {
		return s.place(load.NewOrder{AccountID: account, Amount: amount, OnInsufficient: contract.OnInsufficientWait})
	}
	first := patient("50.00")
	const waits = "placed received event status"
	s.order(first, view{"pending", "It waits for money: 50.00 RUB, of which the account has 5.00 free, until",
		"Deposit money",
		false, waits})
	second, third := patient("2.00"), patient("1.00")
	e = s.order(third, view{"pending", "the first of which is " + first.String(), "The first in the queue", false, waits})
	if second == third || e.Wait.Behind < 1 || e.Wait.Behind > 2 {
		s.Errorf("%+v is behind two", e.Wait)
	}
	if _, err := s.client.Cancel(s.Context(), uuid.NewString(), second, ""); err != nil {
		s.Fatal(err)
	}
	s.order(second, view{"cancelled", "Nothing was taken", "Nothing has to be done.", false,
		"placed received status status settled event status"})
	s.do("/api/v1/accounts/"+account.String()+"/deposits", amount("46.00"))
	s.entries(s.order(first, view{"paid", "50.00 RUB were taken.", "/refund", false,
		"placed received status settled entry event status"}), "51.00-1.00 0.00-0.00")
	s.order(late, view{"failed", "its time was over", "expires_in", false, ""})
}

// operations is about operations of each kind.
func (s *explained) operations() {
	account, other := s.account("100.00"), s.account("0.01")
	path := "/api/v1/accounts/" + account.String()
	nothing := "Nothing has to be done."
	deposit := s.do(path+"/deposits", amount("1.00"))
	s.entries(s.operation(deposit.ID, view{"success", "The deposit of 1.00 RUB on the account " + account.String() +
		" took effect", nothing, false, "received settled entry"}), "100.00-101.00 0.00-0.00")
	s.run(deposit.ID, 0, "The deposit of 1.00 RUB")
	transfer := s.do("/api/v1/transfers", amount("1.00", "from_account_id", account.String(), "to_account_id",
		other.String()))
	s.entries(s.operation(transfer.ID, view{"success", "to " + other.String() + " took effect", nothing, false,
		"received settled entry entry"}), "101.00-100.00 0.00-0.00", "0.01-1.01 0.00-0.00")
	hold := s.do(path+"/holds", amount("10.00"))
	s.entries(s.operation(hold.ID, view{"success", "The money is held until the hold is captured or released", "/capture",
		false, "received settled entry"}), "100.00-90.00 0.00-10.00")
	capture := s.do("/api/v1/holds/"+hold.ID.String()+"/capture", map[string]string{"amount": "4.00"})
	s.entries(s.operation(capture.ID, view{"success", "The capture of 4.00 RUB of the hold " + hold.ID.String(), nothing,
		false,
		"received settled entry"}), "90.00-96.00 10.00-0.00")
	s.operation(hold.ID, view{"success", "The hold is captured.", nothing, false, "received settled entry"})
	released := s.do(path+"/holds", amount("10.00"))
	release := s.do("/api/v1/holds/"+released.ID.String()+"/release", nil)
	s.operation(release.ID, view{"success", "The release of 10.00 RUB of the hold", nothing, false,
		"received settled entry"})

	waits := s.do(path+"/withdrawals", amount("500.00", "on_insufficient", "wait"))
	e := s.operation(waits.ID, view{"created", "It waits for money: 500.00 RUB, of which the account has 96.00 free",
		"/api/v1/operations/" + waits.ID.String() + "/cancel", false, "received"})
	if e.Wait.Behind != 0 {
		s.Errorf("%+v", e.Wait)
	}
	behind := s.do(path+"/withdrawals", amount("1.00"))
	s.operation(behind.ID, view{"created", "There is 1 other of the account before it, the first of which is " +
		waits.ID.String(), "The first in the queue", false, "received"})
	s.do("/api/v1/operations/"+waits.ID.String()+"/cancel", map[string]string{"reason": changedMind})
	s.operation(waits.ID, view{"error", "failed: it was cancelled. It moved no money.", nothing, false,
		"received received settled"}) // its cancellation, too
	s.operation(behind.ID, view{"success", "The withdrawal of 1.00 RUB", nothing, false, "received settled entry"})
	if err := s.client.Call("POST", path+"/withdrawals", "", amount("500.00"), nil); err == nil {
		s.Error("a withdrawal of more than there is")
	} else {
		var refusal *load.StatusError
		var problem struct {
			ID uuid.UUID `json:"operation_id"`
		}
		if !errors.As(err, &refusal) || json.Unmarshal([]byte(refusal.Body), &problem) != nil {
			s.Fatal(err)
		}
		s.operation(problem.ID, view{"error", "the account had not enough money. It moved no money.", "Deposit money", false,
			"received settled"})
	}
	opened := uuid.New()
	s.do("/api/v1/accounts", map[string]any{"id": opened})
	var list struct {
		Items []contract.Operation `json:"items"`
	}
	s.get("/api/v1/accounts/"+opened.String()+"/operations", &list)
	s.operation(list.Items[0].ID, view{"success", "The opening of the account " + opened.String(), nothing, false,
		"received settled"})
	order := s.place(load.NewOrder{AccountID: account, Amount: "1.00"})
	s.await(order, "paid", "")
	s.operation(order, view{"success", "The payment of 1.00 RUB of the order",
		"/api/v1/orders/" + order.String() + "/explain",
		false, "received settled entry"})
}

// strangers see as much as of what is not there, and those with fewer rights see less, and are told so.
func (s *explained) strangers() {
	account := s.account("10.00")
	order := s.place(load.NewOrder{AccountID: account, Amount: "1.00"})
	s.await(order, "paid", "")
	for _, client := range []*load.Client{s.as("somebody", "market", load.Scopes()...),
		s.as("nobody", identity.DefaultTenant, "orders:read.own", "payments:read.own", "accounts:read.own")} {
		for _, path := range []string{load.OrdersPath, "/api/v1/operations", "/api/v1/payments"} {
			var answers [2]*load.StatusError
			for i, id := range []uuid.UUID{order, uuid.New()} {
				if err := client.Call("GET", path+"/"+id.String()+"/explain", "", nil, nil); !errors.As(err, &answers[i]) {
					s.Fatalf("%s: %v", path, err)
				}
			}
			if answers[0].Status != 404 || *answers[0] != *answers[1] {
				s.Errorf("%s: a stranger gets %v, and where nothing is %v", path, answers[0], answers[1])
			}
		}
	}
	for scopes, missing := range map[string]string{
		"orders:read":                             "payments: the token lacks the scope payments:read",
		"orders:read payments:read":               "entries and balances: the token lacks the scope accounts:read",
		"payments:read accounts:read":             "orders: the token lacks the scope orders:read",
		"orders:read payments:read accounts:read": "",
	} {
		var e explain.Explanation
		client := s.as("clerk", identity.DefaultTenant, strings.Fields(scopes)...)
		if err := client.Call("GET", load.OrdersPath+"/"+order.String()+"/explain", "", nil, &e); err != nil {
			s.Fatalf("%s: %v", scopes, err)
		}
		var gaps []string
		for _, gap := range e.Missing {
			gaps = append(gaps, gap.What+": "+gap.Why)
		}
		entry := slices.ContainsFunc(e.Timeline, func(step explain.Step) bool { return step.Entry != nil })
		if got := strings.Join(gaps, "; "); got != missing || entry != strings.Contains(scopes,
			"payments:read accounts:read") {
			s.Errorf("%s: missing %q, want %q; entries %v", scopes, got, missing, entry)
		}
	}
}

// stopped is about an account whose queue stands still, until an operator redrives what is at its head.
func (s *explained) stopped() {
	account := s.account("10.00")
	mend := s.refuse(s.payments, "operations",
		fmt.Sprintf(`new.account_id = '%s' AND new.operation = 'payment' AND new.status = 'success'`, account))
	head := s.place(load.NewOrder{AccountID: account, Amount: "1.00"})
	e := s.order(head, view{"pending", "the queue of its account stands still.", "", true, "placed queued stopped"})
	if e.Stop.Attempts < 1 || len(e.Queued) != 1 || !e.Queued[0].Head {
		s.Errorf("%+v, %+v", e.Stop, e.Queued)
	}
	s.exec(s.payments, `UPDATE inbox_stops SET retry_at = NULL, attempts = 8 WHERE account_id = $1 AND NOT probing`,
		account)
	e = s.order(head, view{"pending", "failed 8 times; the queue of its account stands still.", "redrives or discards",
		true,
		"placed queued stopped"})
	for _, text := range append(e.Next, e.Summary, fmt.Sprint(e.Timeline)) {
		if strings.Contains(text, "secret") {
			s.Errorf("the reason leaks: %s", text)
		}
	}
	s.run(head, 1, "redrives or discards")
	behind := s.place(load.NewOrder{AccountID: account, Amount: "2.00"})
	s.order(behind, view{"pending", "an earlier message of the account failed 8 times", "redrives or discards", true,
		"stopped placed queued"})
	var deposit contract.Operation
	if err := s.client.Call("POST", "/api/v1/accounts/"+account.String()+"/deposits?wait=1ms", "", amount("1.00"),
		&deposit); err != nil {
		s.Fatal(err)
	}
	s.operation(deposit.ID, view{"created", "an earlier message of the account failed 8 times", "redrives or discards",
		true,
		"stopped received"})
	if _, err := s.client.Cancel(s.Context(), uuid.NewString(), behind, ""); err != nil {
		s.Fatal(err)
	}
	s.eventually(func() error {
		var e explain.Explanation
		s.get(load.OrdersPath+"/"+behind.String()+"/explain", &e)
		if e.Status != "cancelling" || len(e.Queued) != 2 || !e.Stuck {
			return fmt.Errorf("%+v", e)
		}
		return nil
	})
	mend()
	s.operator(stack.Payments, "parked/"+head.String()+"/redrive", map[string]string{"reason": "mended"})
	s.entries(s.order(head, view{"paid", "1.00 RUB were taken.", "/refund", false, paidSteps}), "10.00-9.00 0.00-0.00")
	s.order(behind, view{"cancelled", "2.00 RUB, was returned", "Nothing has to be done.", false, ""})
	s.operation(deposit.ID, view{"success", "The deposit of 1.00 RUB", "Nothing has to be done.", false,
		"received settled entry"})
}

// unapplied is about an event of payments that orders could not apply, until an operator redrives it.
func (s *explained) unapplied() {
	account := s.account("10.00")
	mend := s.refuse(s.orders, "orders", fmt.Sprintf(`new.account_id = '%s' AND new.status = 'paid'`, account))
	order := s.place(load.NewOrder{AccountID: account, Amount: "1.00"})
	s.order(order, view{"pending", "The event payment.succeeded came to orders and could not be applied; it is parked",
		"redrives the event", true, "placed received settled entry event event"})
	mend()
	var id uuid.UUID
	if err := s.orders.Get(&id, `SELECT id FROM parked_events`); err != nil {
		s.Fatal(err)
	}
	s.operator(stack.Orders, "parked/"+id.String()+"/redrive", map[string]string{"reason": "mended"})
	s.order(order, view{"paid", "1.00 RUB were taken.", "/refund", false, paidSteps})
}

// age makes what is in a database older by a minute.
const age = `created_at = created_at - interval '1 minute'`

// brokerAway is about what is in the outbox meanwhile, and about an event that payments cannot read afterwards.
func (s *explained) brokerAway() {
	account := s.account("10.00")
	if err := s.Kill(stack.KafkaName); err != nil {
		s.Fatal(err)
	}
	place := func() uuid.UUID { return s.place(load.NewOrder{AccountID: account, Amount: "1.00"}) }
	order, early, dead := place(), place(), place()
	if _, err := s.client.Cancel(s.Context(), uuid.NewString(), early, ""); err != nil {
		s.Fatal(err)
	}
	if err := s.Stop(stack.Orders); err != nil {
		s.Fatal(err)
	}
	s.run(order, 2, "ask the gateway: 50")
	for _, table := range []string{"outbox", "outbox_waiting"} {
		s.orders.MustExec(`UPDATE ` + table + ` SET ` + age)
	}
	// As long as it was, and without what payments needs. What it does not know, it would keep for a later version.
	changed := int64(0)
	for _, table := range []string{"outbox", "outbox_waiting"} {
		result := s.orders.MustExec(`UPDATE `+table+` SET messages = replace(messages, '"capture"', '"capturf"')
			WHERE position($1 IN messages) > 0`, dead.String())
		n, err := result.RowsAffected()
		if err != nil {
			s.Fatal(err)
		}
		changed += n
	}
	if changed != 1 {
		s.Fatalf("%d events were changed", changed)
	}
	if err := s.Restart(stack.Orders); err != nil {
		s.Fatal(err)
	}
	s.order(order, view{"pending", "Nothing is lost: the broker may be away", "whether the broker answers", true,
		"placed"})
	e := s.order(early, view{"cancelling", "The event order.cancelled is stored in orders and not published",
		"whether the broker answers", true, "placed status"})
	if len(e.Events) != 2 {
		s.Errorf("events %+v", e.Events)
	}
	if err := s.Restart(stack.KafkaName); err != nil {
		s.Fatal(err)
	}
	s.order(order, view{"paid", "1.00 RUB were taken.", "/refund", false, paidSteps})
	s.order(early, view{"cancelled", "The order is cancelled.", "Nothing has to be done.", false, ""})
	s.orders.MustExec(`UPDATE orders SET `+age+` WHERE id = $1`, dead)
	s.order(dead, view{"pending", "The event order.placed was published and has had no effect", "payments dead-letters",
		true,
		"placed"})
	s.operator(stack.Orders, "digests/announce", map[string]any{"ids": []uuid.UUID{dead}, "reason": "lost"})
	s.order(dead, view{"paid", "1.00 RUB were taken.", "/refund", false, paidSteps})
}

// paymentsAway is about the part that is there meanwhile.
func (s *explained) paymentsAway() {
	order := s.place(load.NewOrder{AccountID: s.account("10.00"), Amount: "1.00"})
	s.await(order, "paid", "")
	if err := s.Stop(stack.Payments); err != nil {
		s.Fatal(err)
	}
	e := s.order(order, view{"paid", "1.00 RUB were taken.", "/refund", false, "placed status"})
	if len(e.Missing) != 1 || e.Missing[0].What != "payments" || !e.Missing[0].Away {
		s.Errorf("missing %+v", e.Missing)
	}
	s.run(order, 2, "Not looked at: payments: it cannot be reached")
	pending := s.place(load.NewOrder{AccountID: uuid.New(), Amount: "1.00"})
	s.order(pending, view{"pending", "is pending.", "once payments can be asked", false, "placed"})
	if err := s.Restart(stack.Payments); err != nil {
		s.Fatal(err)
	}
	s.order(pending, view{"failed", "there is no such account", "account's ID", false,
		"placed received settled event status"})
}
