package ledger_test

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
)

// Alice has 100.00. She cannot transfer 130.00 to Bob, but 30.00. Whatever happens, the entries sum to zero.
func Example() {
	alice := uuid.MustParse("a11ce000-0000-4000-8000-000000000000")
	bob := uuid.MustParse("b0b00000-0000-4000-8000-000000000000")
	names := map[uuid.UUID]string{alice: "alice", bob: "bob", ledger.External: "external"}
	var arrived int64
	request := func(account uuid.UUID, command ledger.Command) ledger.Request {
		arrived++
		return ledger.Request{
			ID: uuid.New(), Seq: arrived, AccountID: account, Lane: contract.Lane(account), Command: command,
		}
	}
	requests := []ledger.Request{
		request(alice, ledger.Deposit{Currency: "RUB", Amount: 100_00}),
		request(alice, ledger.Transfer{ToAccountID: bob, Currency: "RUB", Amount: 130_00}),
		request(alice, ledger.Transfer{ToAccountID: bob, Currency: "RUB", Amount: 30_00}),
	}

	// What the database has: two accounts without any money.
	book := ledger.NewBook(time.Now(), len(requests))
	for account := range names {
		book.PutAccount(ledger.Account{ID: account, Lane: contract.Lane(account)})
	}
	for _, r := range requests {
		op := book.Apply(r)
		fmt.Printf("%s %d: %s %q\n", op.Kind, op.Amount, op.Status, op.Reason)
	}

	var sum int64
	for _, entry := range book.Changes().Entries {
		fmt.Printf("%-8s %+6d → %d\n", names[entry.AccountID], entry.Amount, entry.BalanceAfter)
		sum += entry.Amount + entry.Frozen
	}
	fmt.Println("sum", sum)
	// Output:
	// deposit 10000: success ""
	// transfer 13000: error "insufficient_funds"
	// transfer 3000: success ""
	// external -10000 → -10000
	// alice    +10000 → 10000
	// alice     -3000 → 7000
	// bob       +3000 → 3000
	// sum 0
}
