package system

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

// batch sends commands at once and returns their operations; each must be accepted.
func (b *bundle) batch(commands []contract.Command) ([]contract.Operation, error) {
	var answer struct {
		Items []struct {
			Operation *contract.Operation `json:"operation"`
			Problem   any                 `json:"problem"`
		} `json:"items"`
	}
	if err := b.client.Retry(b.Context(), "/api/v1/operations/batch", uuid.NewString(),
		map[string]any{"operations": commands}, &answer); err != nil {
		return nil, err
	}
	operations := make([]contract.Operation, len(answer.Items))
	for i, item := range answer.Items {
		if item.Operation == nil {
			return nil, fmt.Errorf("%+v: %v", commands[i], item.Problem)
		}
		operations[i] = *item.Operation
	}
	return operations, nil
}

// A client that waits for money with 10,000 requests behind the first costs the others nothing: theirs end, while its
// own stay, and while they are served later on. They are served in their order, as far as the money goes.
func TestALongQueueIsOnlyItsClients(t *testing.T) {
	b := setup(t, localkafka.Embedded, stack.Instances(1, 2, 0))
	const behind, size, covered = 10_000, 1000, 6000
	client, crowd := b.accounts(1, "5.00")[0], b.accounts(200, "10.00")
	path := "/api/v1/accounts/" + client.String()
	b.waits(path+"/withdrawals", amount("1000.00", "on_insufficient", "wait"))
	queue := make([]contract.Command, size)
	for i := range queue {
		queue[i] = contract.Command{Operation: "withdraw", AccountID: &client, Amount: "1.00", Currency: "RUB"}
	}
	for range behind / size {
		operations, err := b.batch(queue)
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range operations {
			if op.Status != "created" || op.Reason != "waiting_for_funds" {
				t.Fatalf("%+v does not wait behind the others", op)
			}
		}
	}
	const waiting = `SELECT count(*) FROM waits WHERE account_id = $1`
	// others has each client of the crowd do something, and all of it ends well.
	others := func() error {
		commands := make([]contract.Command, size)
		for i := range commands {
			payer, payee := &crowd[i%len(crowd)], &crowd[(i+1)%len(crowd)]
			commands[i] = contract.Command{Operation: "transfer", FromAccountID: payer, ToAccountID: payee, Amount: "0.50",
				Currency: "RUB"}
			if i%3 == 0 {
				commands[i] = contract.Command{Operation: "deposit", AccountID: payer, Amount: "0.50", Currency: "RUB"}
			}
		}
		operations, err := b.batch(commands)
		for _, op := range operations {
			if op.Status != "success" {
				return fmt.Errorf("%+v", op)
			}
		}
		return err
	}
	if err := others(); err != nil {
		t.Fatal(err)
	}
	// So does what passes the queue: a credit that is too small, and another currency.
	dollars := map[string]string{"amount": "1.00", "currency": "USD"}
	for _, step := range []struct {
		path string
		body map[string]string
	}{{"/deposits", amount("95.00")}, {"/deposits", dollars}, {"/withdrawals", dollars}} {
		var op contract.Operation
		if err := b.post(path+step.path, uuid.NewString(), step.body, &op); err != nil || op.Status != "success" {
			t.Fatalf("%s: %+v, %v", step.path, op, err)
		}
	}
	b.until(behind+1, waiting, client)

	var group errgroup.Group
	group.Go(func() error {
		return b.post(path+"/deposits", uuid.NewString(), amount(cents((900+covered)*100)), nil)
	})
	for range 5 {
		group.Go(others)
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	b.until(0, waiting, client)
	for status, want := range map[string]int{"success": 1 + covered, "error": behind - covered} {
		b.until(want, `SELECT count(*) FROM operations
			WHERE account_id = $1 AND operation = 'withdraw' AND currency = 'RUB' AND status = $2`, client, status)
	}
	b.until(0, `SELECT count(*) FROM (
		SELECT o.seq, lag(o.seq) OVER (ORDER BY e.number) AS before FROM entries e JOIN operations o ON o.id = e.operation_id
		WHERE e.account_id = $1 AND e.currency = 'RUB' AND e.operation = 'withdraw') e WHERE seq < before`, client)
	b.until(0, `SELECT count(*) FROM operations
		WHERE account_id = $1 AND status = 'error' AND (reason <> 'insufficient_funds' OR seq < (
		SELECT max(seq) FROM operations WHERE account_id = $1
			AND currency = 'RUB' AND operation = 'withdraw' AND status = 'success'))`, client)
	b.balance(client, "0.00", "0.00")
	b.audit(map[string]int64{})
}
