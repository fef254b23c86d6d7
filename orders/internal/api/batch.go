package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

const (
	maxBatch  = 1000
	batchPath = Path + "/batch"
)

// placeBatch accepts many orders in one transaction.
//
//	@ID				placeOrders
//	@Summary		Place many orders
//	@Description	Accepts up to 1000 orders. Each has its own result: an order, or the problem that kept it from being accepted. An
//	@Description	Idempotency-Key covers the whole batch: with the same body it answers with the same orders in their present state and
//	@Description	Idempotent-Replayed: true, and places what a crash has left out; with any other body nothing happens. Where it is not known
//	@Description	whether the orders were accepted, each has the problem outcome_unknown, whose location is where the order is then.
//	@Tags			orders
//	@Accept			json
//	@Produce		json,application/problem+json
//	@Param			Idempotency-Key	header		string		false	"makes the request repeatable, 1 to 255 characters"
//	@Param			orders			body		PlaceOrders	true	"the orders"
//	@Success		200				{object}	Results
//	@Header			200				{string}	Idempotent-Replayed	"true when the same batch came with this key before"
//	@Failure		400				{object}	httpserver.Problem	"invalid_json, unknown_field or validation_failed"
//	@Failure		408				{object}	httpserver.Problem	"request_timeout"
//	@Failure		413				{object}	httpserver.Problem	"body_too_large"
//	@Failure		415				{object}	httpserver.Problem	"unsupported_media_type"
//	@Failure		422				{object}	httpserver.Problem	"idempotency_key_reused"
//	@Failure		500				{object}	httpserver.Problem	"internal"
//	@Failure		503				{object}	httpserver.Problem	"unavailable or overloaded"
//	@Router			/api/v1/orders/batch [post]
func (a *API) placeBatch(w http.ResponseWriter, r *http.Request) error {
	key, err := httpserver.IdempotencyKey(r.Header)
	if err != nil {
		return err
	}
	var request PlaceOrders
	if err := httpserver.DecodeJSON(w, r, &request); err != nil {
		return err
	}
	if n := len(request.Orders); n < 1 || n > maxBatch {
		return contract.Invalid("orders", "must have 1 to %d orders", maxBatch)
	}
	results := make([]Result, len(request.Orders))
	valid, indexes, err := a.placements(r.Context(), request, key, results)
	if err != nil {
		return err
	}
	if sent := httpserver.SentKey(r.Header); sent != "" { // it may have come to an earlier version
		before, _, err := a.placements(r.Context(), request, sent, results)
		if err != nil {
			return err
		}
		placed, err := a.store.Placed(r.Context(), request.claim(sent, before).IDs())
		if err != nil {
			return err
		}
		if len(placed) > 0 {
			key, valid = sent, before
		}
	}
	room, err := a.room(r.Context(), key, valid...)
	if err != nil {
		return err
	}
	if len(valid) > 0 && !slices.Contains(room, true) {
		return outbox.ErrFull
	}
	repeated := false
	if key != "" {
		repeated, err = a.store.Claim(r.Context(), request.claim(key, valid))
		if pg.IsOutcomeUnknown(err) {
			return httpserver.Unavailable(err) // a key alone has done nothing
		}
		if err != nil {
			return err
		}
	}
	var placements []postgres.Placement
	for n := range valid {
		if room[n] {
			placements = append(placements, valid[n])
		} else {
			results[indexes[n]].Problem = Classify(outbox.ErrFull)
		}
	}
	indexes = slices.DeleteFunc(indexes, func(i int) bool { return results[i].Problem != nil })
	placed, err := a.placing.DoAll(r.Context(), placements)
	if pg.IsOutcomeUnknown(err) {
		for n, p := range placements {
			results[indexes[n]].Problem = outcomeUnknown(p.Order.ID, err)
		}
	} else if err != nil {
		return err
	}
	for n, p := range placed {
		result := &results[indexes[n]]
		if p.Order.Fingerprint != placements[n].Order.Fingerprint {
			result.Problem = errKeyReused
			continue
		}
		answer, err := a.json(p.Order)
		if err != nil {
			return err
		}
		result.Order = &answer
	}
	if repeated {
		w.Header().Set(replayedHeader, "true")
	}
	return httpserver.WriteJSON(w, http.StatusOK, Results{results})
}

// placements are the valid orders of a batch that came with a key, or with "", with their indexes; results gets what is wrong
// with the others.
func (a *API) placements(ctx context.Context, b PlaceOrders, key string,
	results []Result) (placements []postgres.Placement, indexes []int, err error) {
	for i, item := range b.Orders {
		results[i].Index = i
		itemKey := ""
		if key != "" {
			itemKey = keyOfItem(i, key)
		}
		placement, err := a.placement(ctx, item, batchPath, itemKey)
		if err != nil {
			if results[i].Problem = httpserver.AsProblem(contract.Within("orders["+strconv.Itoa(i)+"].", err)); results[i].Problem == nil {
				return nil, nil, err
			}
			continue
		}
		placements, indexes = append(placements, placement), append(indexes, i)
	}
	return placements, indexes, nil
}

// keyOfItem tells the orders of a batch apart. What it was in earlier versions it must stay.
func keyOfItem(index int, key string) string { return strconv.Itoa(index) + ":" + key }

// claim claims the key for the batch, whose valid orders are to be placed.
func (b PlaceOrders) claim(key string, placements []postgres.Placement) idempotency.Claim {
	c := idempotency.Claim{Key: contract.DerivedID(batchPath, uuid.Nil, key), Makes: make(map[uuid.UUID]uuid.UUID, len(placements))}
	c.Fingerprint = uuid.NewSHA1(c.Key, b.canonical())
	accounts := make([]uuid.UUID, len(placements))
	for i, p := range placements {
		c.Makes[p.Order.ID], accounts[i] = p.Order.Fingerprint, p.Order.AccountID
	}
	c.Others = idempotency.Others(accounts, func(account uuid.UUID, index int) uuid.UUID {
		return contract.DerivedID(batchPath, account, keyOfItem(index, key))
	})
	return c
}

// canonicalOrder is a PlaceOrder as fingerprints of batches have it. A field that is added later must be left out where it
// has its default, so that older fingerprints stay true.
type canonicalOrder struct {
	AccountID      string        `json:"account_id"`
	Amount         money.Decimal `json:"amount"`
	Currency       string        `json:"currency"`
	Description    string        `json:"description,omitempty"`
	Reference      string        `json:"reference,omitempty"`
	Capture        string        `json:"capture,omitempty"`
	AwaitInventory bool          `json:"await_inventory,omitempty"`
	OnInsufficient string        `json:"on_insufficient,omitempty"`
	ExpiresIn      string        `json:"expires_in,omitempty"`
}

// canonical is the same for batches whose orders say the same, be they valid or not: in whichever order they have their
// fields, and whether they spell out a default.
func (b PlaceOrders) canonical() []byte {
	orders := make([]canonicalOrder, len(b.Orders))
	for i, o := range b.Orders {
		o.AccountID = strings.ToLower(o.AccountID)
		if o.Capture == contract.CaptureAutomatic {
			o.Capture = ""
		}
		if o.OnInsufficient == contract.OnInsufficientReject {
			o.OnInsufficient = ""
		}
		orders[i] = canonicalOrder(o)
	}
	text, err := json.Marshal(orders)
	if err != nil {
		panic(err) // texts can always be encoded
	}
	return text
}
