package billing

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// SubmitAll accepts a batch of commands and waits for their results, which are in the order of the commands. A command
// that cannot be done, or that ends in error, has that as its Err and does not affect the others. The call's key covers
// the whole batch; replayed reports that the same batch came with it before.
func (s *Service) SubmitAll(
	ctx context.Context, commands []contract.Command, call Call) (results []Result, replayed bool, err error) {
	named, err := s.store.Named(ctx, commands...)
	if err != nil {
		return nil, false, err
	}
	results = make([]Result, len(commands))
	b := batch{s.currencies, commands, named, call.Scope, call.Who}
	items, err := b.items(call.Key, results)
	if err != nil {
		return nil, false, err
	}
	if call.SentKey != "" { // it may have come to an earlier version
		before, err := b.items(call.SentKey, results)
		if err != nil {
			return nil, false, err
		}
		accepted, err := s.store.Accepted(ctx, b.claim(call.SentKey, before).IDs())
		if err != nil {
			return nil, false, err
		}
		if len(accepted) > 0 {
			call.Key, items = call.SentKey, before
		}
	}
	if call.Key != "" {
		outcomes, err := s.claim(ctx, b.claim(call.Key, items))
		if err != nil {
			return nil, false, err
		}
		if outcomes[0].Err != nil {
			return nil, false, outcomes[0].Err
		}
		replayed = outcomes[0].Repeated
	}
	if err := s.identifyCommands(ctx, items, results); err != nil {
		return nil, replayed, err
	}
	items = slices.DeleteFunc(items, func(it item) bool { return results[it.index].Err != nil })
	return results, replayed, s.doItems(ctx, items, call, results)
}

// doItems has the items of a batch done.
func (s *Service) doItems(ctx context.Context, items []item, call Call, results []Result) error {
	requests := make([]ledger.Request, len(items))
	for i, it := range items {
		requests[i] = it.request
	}
	outcomes, err := s.doAll(ctx, requests, call)
	if err != nil {
		return err
	}
	ended := make([]*ledger.Operation, len(outcomes)) // in error
	for i, out := range outcomes {
		if out.err == nil && out.operation.Status == ledger.Error {
			ended[i] = out.operation
		}
	}
	s.show(ctx, requests, outcomes)
	for i, out := range outcomes {
		result := &results[items[i].index]
		switch {
		case out.err != nil:
			result.Err = out.err
		case ended[i] != nil:
			result.Err = &Refusal{ended[i].Reason, shown(requests[i])}
		default:
			if result.Operation, err = s.present.Operation(out.operation, call.own()); err != nil {
				return err
			}
		}
	}
	return nil
}

// batch is what the IDs of its items follow from.
type batch struct {
	currencies *money.Currencies
	commands   []contract.Command
	named      postgres.Named
	scope      string // where it came in
	who        identity.Identity
}

// item is a valid item of a batch.
type item struct {
	index   int
	account uuid.UUID // that the item names, if any
	command *uuid.UUID
	request ledger.Request
	asked   ledger.Request // the same without an ID
}

// items reads a batch that came with a key, or with "". It fills in the results of commands that are not valid.
func (b batch) items(key string, results []Result) ([]item, error) {
	items := make([]item, 0, len(b.commands))
	for i, c := range b.commands {
		it, err := b.item(key, i, c)
		switch {
		case err == nil:
			items = append(items, it)
		case Problem(err) == nil:
			return nil, err
		default:
			results[i].Err = err
		}
	}
	return items, nil
}

// item reads an item of a batch that came with a key, or with "". A command_id is the item's own key, the same one that
// it would be over the broker.
func (b batch) item(key string, index int, c contract.Command) (it item, err error) {
	it.index, it.command = index, c.CommandID
	if it.asked, err = Read(c, b.who, b.named, b.currencies); err != nil {
		return it, err
	}
	if it.asked.Kind() == ledger.KindBalanceQuery {
		return it, contract.Invalid("operation", "balance is asked by GET /api/v1/accounts/{id}/balance")
	}
	it.account = it.asked.AccountID
	scope := b.scope
	switch {
	case c.CommandID != nil:
		it.asked.CommandID = *c.CommandID
		scope, key = contract.TopicCommands, c.CommandID.String()
	case key != "":
		it.asked.Key = key
		key = keyOfItem(key, index)
	}
	it.request = it.asked
	return it, Identify(&it.request, scope, key)
}

// keyOfItem is the key of an item that has no command_id. Stored IDs are derived from it, so it never changes.
func keyOfItem(key string, index int) string { return key + "#" + strconv.Itoa(index) }

// claim is the claim that binds the key to the batch, whose valid items these are.
func (b batch) claim(key string, items []item) idempotency.Claim {
	scope := b.by(items).Namespace() + b.scope
	c := idempotency.Claim{Key: contract.DerivedID(scope, uuid.Nil, key), Makes: make(map[uuid.UUID]uuid.UUID)}
	c.Fingerprint = uuid.NewSHA1(c.Key, b.canonical())
	var accounts []uuid.UUID
	for _, it := range items {
		if it.command == nil {
			c.Makes[it.request.ID] = it.request.Fingerprint.UUID
			accounts = append(accounts, it.account)
		}
	}
	c.Others = idempotency.Others(accounts, func(account uuid.UUID, index int) uuid.UUID {
		return contract.DerivedID(scope, account, keyOfItem(key, index))
	})
	return c
}

// by says whose key the batch's is: the tenant's, or the subject's if an item is restricted to the subject.
func (b batch) by(items []item) identity.Reach {
	by := identity.Reach{Tenant: b.who.Tenant}
	for _, it := range items {
		by.Owner = cmp.Or(by.Owner, it.request.By.Owner)
	}
	return by
}

// canonical is the same for batches whose items say the same, whether they are valid or not: in any order of their
// fields, and with defaults spelled out or left out. A command's JSON leaves out what it does not have, so a field that
// is added later keeps older fingerprints true.
func (b batch) canonical() []byte {
	commands := slices.Clone(b.commands)
	for i := range commands {
		if commands[i].OnInsufficient == contract.OnInsufficientReject {
			commands[i].OnInsufficient = ""
		}
	}
	text, err := json.Marshal(commands)
	if err != nil {
		panic(err) // texts and IDs can always be encoded
	}
	return text
}

// scopeBefore is the scope that earlier versions gave an item with a command_id, as if it were another command than the
// same one over the broker. What they accepted keeps its ID.
const scopeBefore = "/api/v1/operations/batch"

// identifyCommands gives the items with a command_id their IDs. What an earlier version has accepted keeps the ID that
// it got then. An ID that came with another new account before is refused.
func (s *Service) identifyCommands(ctx context.Context, items []item, results []Result) error {
	var ids []uuid.UUID // as earlier versions gave them
	for i := range items {
		it := &items[i]
		if it.command == nil {
			continue
		}
		if err := Identify(&it.asked, scopeBefore, it.command.String()); err != nil {
			return err
		}
		ids = append(ids, it.asked.ID)
	}
	accepted, err := s.store.Accepted(ctx, ids)
	if err != nil {
		return err
	}
	var claims []idempotency.Claim
	var claimed []int // in results
	for i, it := range items {
		if it.command == nil {
			continue
		}
		if _, ok := accepted[it.asked.ID]; ok {
			items[i].request = it.asked
		} else if it.request.Kind() == ledger.KindCreateAccount {
			claims = append(claims, Claim(it.request, contract.TopicCommands, it.command.String()))
			claimed = append(claimed, it.index)
		}
	}
	outcomes, err := s.claim(ctx, claims...)
	for n, o := range outcomes {
		results[claimed[n]].Err = o.Err
	}
	return err
}

// shown is the operation that clients see of a request: of a cancellation the one that it ends.
func shown(r ledger.Request) uuid.UUID {
	if c, ok := r.Command.(ledger.CancelOperation); ok {
		return c.OperationID
	}
	return r.ID
}

// show replaces cancellations by the operations that they have ended, as these are now. If that cannot be read, the
// outcome gets the error.
func (s *Service) show(ctx context.Context, requests []ledger.Request, outcomes []outcome) {
	var named []uuid.UUID
	for i, r := range requests {
		if r.Kind() == ledger.KindCancelOperation && outcomes[i].err == nil {
			named = append(named, shown(r))
		}
	}
	if len(named) == 0 {
		return
	}
	reading, cancel := pg.Detached(ctx)
	defer cancel()
	settled, err := s.store.Settled(reading, named)
	for i, r := range requests {
		out := &outcomes[i]
		if r.Kind() != ledger.KindCancelOperation || out.err != nil {
			continue
		}
		wrong := err
		if out.operation = settled[shown(r)]; wrong == nil && out.operation == nil { // both wait behind something else
			out.operation, wrong = s.operation(ctx, shown(r))
		}
		if wrong != nil {
			out.err = outcomeUnknown(ctx, shown(r), wrong)
		}
	}
}
