package placing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Result is what became of one order of a batch: the order, or the error that Admit or Place would return.
type Result struct {
	Order order.Order
	Err   error
}

// PlaceAll places many orders in one transaction. Each has its own result: one that is refused does not keep the others
// from being placed. A key covers the whole batch. With the same requests, PlaceAll places what a crash has left out
// and returns the orders as they are now, and repeated; with any other requests it returns idempotency.ErrReused. After
// an error nothing was placed.
func (s *Service) PlaceAll(ctx context.Context, client Client, requests []order.Request, key Key) (
	results []Result, repeated bool, err error) {
	results = make([]Result, len(requests))
	b, err := s.readBatch(client, requests, key.Text, results)
	if err != nil {
		return nil, false, err
	}
	if key.Sent != "" {
		before, err := s.readBatch(client, requests, key.Sent, results)
		if err != nil {
			return nil, false, err
		}
		found, err := s.store.Placed(ctx, before.claim().IDs())
		if err != nil {
			return nil, false, err
		}
		if len(found) > 0 {
			b = before
		}
	}
	room, err := s.room(ctx, b.key != "", b.orders...)
	if err != nil {
		return nil, false, err
	}
	if len(b.orders) > 0 && !slices.Contains(room, true) {
		return nil, false, outbox.ErrFull
	}
	if b.key != "" {
		repeated, err = s.store.Claim(ctx, b.claim())
		if pg.IsOutcomeUnknown(err) {
			return nil, false, fmt.Errorf("%w: %v", ErrUnavailable, err) // a key alone has done nothing
		}
		if err != nil {
			return nil, false, err
		}
	}
	return results, repeated, s.placeBatch(ctx, b, room, results)
}

// batch is the valid orders of a batch, in the order of its requests.
type batch struct {
	scope    string // of the key
	key      string
	requests []order.Request // all of them
	orders   []order.Order
	indexes  []int // of the orders among the requests
}

// readBatch reads the requests of a batch. results gets the errors of those that are not valid.
func (s *Service) readBatch(client Client, requests []order.Request, key string, results []Result) (batch, error) {
	b := batch{scope: client.scope(batchScope), key: key, requests: requests}
	for i, request := range requests {
		itemKey := ""
		if key != "" {
			itemKey = keyOfItem(i, key)
		}
		o, err := s.read(client, request, batchScope, itemKey)
		var fields contract.FieldErrors
		switch {
		case err == nil:
			o.Key = key
			b.orders, b.indexes = append(b.orders, o), append(b.indexes, i)
		case errors.As(err, &fields):
			results[i].Err = contract.Within("orders["+strconv.Itoa(i)+"].", err)
		default:
			return batch{}, err
		}
	}
	return b, nil
}

// placeBatch stores the orders for which there is room, and fills in their results.
func (s *Service) placeBatch(ctx context.Context, b batch, room []bool, results []Result) error {
	placements := make([]*postgres.Placement, 0, len(b.orders))
	indexes := make([]int, 0, len(b.orders))
	for n, i := range b.indexes {
		if !room[n] {
			results[i].Err = outbox.ErrFull
			continue
		}
		placement, err := s.placement(ctx, b.orders[n])
		if err != nil {
			return err
		}
		placements, indexes = append(placements, placement), append(indexes, i)
	}
	placed, err := s.placing.DoAll(ctx, placements)
	if err != nil && !pg.IsOutcomeUnknown(err) {
		return err
	}
	for n, i := range indexes {
		result, o := &results[i], &placements[n].Order
		switch {
		case err != nil:
			result.Err = outcome(o.ID, err)
		case placed[n].Order.Fingerprint != o.Fingerprint:
			result.Err = idempotency.ErrReused
		default:
			result.Order = *placed[n].Order
		}
	}
	return nil
}

// keyOfItem tells the orders of a batch apart. Stored IDs are derived from it, so it never changes.
func keyOfItem(index int, key string) string { return strconv.Itoa(index) + ":" + key }

// claim is the claim that binds the key to the batch.
func (b batch) claim() idempotency.Claim {
	key := contract.DerivedID(b.scope, uuid.Nil, b.key)
	c := idempotency.Claim{
		Key: key, Fingerprint: uuid.NewSHA1(key, canonical(b.requests)), Makes: make(map[uuid.UUID]uuid.UUID, len(b.orders)),
	}
	accounts := make([]uuid.UUID, len(b.orders))
	for i, o := range b.orders {
		c.Makes[o.ID] = o.Fingerprint
		accounts[i] = o.AccountID
	}
	c.Others = idempotency.Others(accounts, func(account uuid.UUID, index int) uuid.UUID {
		return contract.DerivedID(b.scope, account, keyOfItem(index, b.key))
	})
	return c
}

// BatchKeys are the keys in package idempotency of the batch in which an order may have come. Its key may as well be
// its own.
func BatchKeys(o order.Order) []uuid.UUID {
	client := Client{Reach: identity.Reach{Tenant: o.Tenant}}
	if o.Owned {
		client.Reach.Owner = o.Subject
	}
	return []uuid.UUID{contract.DerivedID(client.scope(batchScope), uuid.Nil, o.Key)}
}

// canonical is the same for batches that ask for the same, whether they spell out defaults or not. Fingerprints of
// stored keys are made of it.
func canonical(requests []order.Request) []byte {
	same := slices.Clone(requests)
	for i := range same {
		r := &same[i]
		r.AccountID = strings.ToLower(r.AccountID)
		if r.Capture == contract.CaptureAutomatic {
			r.Capture = ""
		}
		if r.OnInsufficient == contract.OnInsufficientReject {
			r.OnInsufficient = ""
		}
	}
	text, err := json.Marshal(same)
	if err != nil {
		panic(err) // texts can always be encoded
	}
	return text
}
