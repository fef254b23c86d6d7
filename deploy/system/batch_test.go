package system

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/deploy/load"
)

// batch sends several requests as one batch, as copies under one key, then other batches under the same key, which
// must be refused and do nothing.
func (g *group) batch(purse int, s step) act {
	debit := thing{kind: aWithdrawal, purse: s.Other*len(currencies) + s.Currency, amount: 1 + s.Amount/2}
	path, list := "/api/v1/operations/batch", "operations"
	if s.Manual {
		debit.kind, path, list = anOrder, load.OrdersPath+"/batch", "orders"
	}
	i, deposits := len(g.world.things), !s.Manual
	var items []map[string]any
	add := func(operation string, purse int, minor int64) {
		item := amountIn(minor, currencies[purse%len(currencies)])
		item["account_id"] = g.accounts[purse/len(currencies)]
		if operation != "" {
			item["operation"] = operation
		} else {
			item["reference"] = g.reference
		}
		items = append(items, item)
	}
	if deposits {
		add("deposit", purse, s.Amount)
		add("withdraw", debit.purse, debit.amount)
	} else {
		add("", debit.purse, debit.amount)
	}
	invalid := maps.Clone(items[0])
	invalid["currency"] = "QQQ"
	items = slices.Insert(items, s.Which%(len(items)+1), invalid)
	key := g.key()
	return act{
		apply: func(w *world) func() []string {
			if deposits {
				w.credit(purse, s.Amount)
			}
			w.begin(debit)
			return func() []string {
				if t := w.things[i]; t.kind != anOrder && t.status == "error" {
					return []string{t.reason, done}
				}
				return []string{done}
			}
		},
		send: func() ([]string, error) {
			codes, ids := make([]string, s.Copies), make([]uuid.UUID, s.Copies)
			err := load.Each(g.Context(), s.Copies, s.Copies, func(n int) (err error) {
				codes[n], ids[n], err = g.sendBatch(path, key, list, items)
				return err
			})
			if err != nil {
				return nil, err
			}
			for _, id := range ids {
				if id != ids[0] {
					return nil, fmt.Errorf("copies of the batch %+v were answered with %s and %s", items, id, ids[0])
				}
			}
			g.ids = append(g.ids, ids[0])
			g.things.add(debit.kind, ids[0], g.party)
			return codes, g.otherBatches(path, key, list, items)
		},
	}
}

// otherBatches sends batches that are nearly the same under the same key.
func (g *group) otherBatches(path, key, list string, items []map[string]any) error {
	reversed := slices.Clone(items)
	slices.Reverse(reversed)
	changed := slices.Clone(items)
	changed[0] = maps.Clone(changed[0])
	changed[0]["description"] = "another one"
	for _, other := range [][]map[string]any{reversed, changed, items[1:], append(slices.Clone(items), items[0])} {
		err := g.client.Retry(g.Context(), path, key, map[string]any{list: other}, nil)
		var refused *load.StatusError
		if !errors.As(err, &refused) || refused.Status != http.StatusUnprocessableEntity ||
			refused.Code() != "idempotency_key_reused" {
			return fmt.Errorf("another batch under the key of %+v, %+v: %w", items, other, err)
		}
	}
	return nil
}

// sendBatch returns what was answered about the item that takes money, which is the last valid one.
func (g *group) sendBatch(path, key, list string, items []map[string]any) (code string, id uuid.UUID, err error) {
	type result struct {
		Operation *struct{ ID uuid.UUID }
		Order     *struct{ ID uuid.UUID }
		Problem   *struct {
			Code        string    `json:"code"`
			OperationID uuid.UUID `json:"operation_id"`
		}
	}
	var answer struct{ Items []result }
	if err := g.client.Retry(g.Context(), path, key, map[string]any{list: items}, &answer); err != nil {
		return "", id, fmt.Errorf("%s %+v: %w", path, items, err)
	}
	if len(answer.Items) != len(items) {
		return "", id, fmt.Errorf("%s: %d items were answered with %+v", path, len(items), answer)
	}
	for i, item := range items {
		r := answer.Items[i]
		switch {
		case item["currency"] == "QQQ":
			if r.Problem == nil || r.Problem.Code != "validation_failed" {
				return "", id, fmt.Errorf("%s: %+v was answered with %+v", path, item, r)
			}
		case r.Problem != nil:
			code, id = r.Problem.Code, r.Problem.OperationID
		case r.Order != nil:
			code, id = done, r.Order.ID
		case r.Operation != nil:
			code, id = done, r.Operation.ID
		default:
			return "", id, fmt.Errorf("%s: %+v was answered with nothing", path, item)
		}
	}
	return code, id, nil
}
