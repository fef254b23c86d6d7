package placing

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
)

// What orders has published is brought back once, however often it is read, and what cannot be is left out without the
// rest.
func TestRecovery(t *testing.T) {
	b := setup(t)
	currencies, err := money.LoadCurrencies("")
	if err != nil {
		t.Fatal(err)
	}
	published := func(event order.Event, err error) kafka.Message {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return kafka.Message{Topic: contract.TopicOrders, Value: []byte(event.Payload), Headers: []kafka.Header{
			{Key: "ce_type", Value: []byte(event.Type)}, {Key: "ce_tenant", Value: []byte("shop")}}}
	}
	fresh := func() order.Order {
		o, err := order.Place(currencies, order.Request{AccountID: account.String(), Amount: "10.00", Currency: "RUB"},
			time.Now())
		if err != nil {
			t.Fatal(err)
		}
		o.ID = uuid.New()
		return o
	}
	lost, gone, overtaken, broken := fresh(), fresh(), fresh(), fresh()
	broken.Capture = "never" // the database refuses it
	there := b.place(t)
	nonsense := kafka.Message{Topic: contract.TopicOrders, Value: []byte("nonsense")}
	unread := kafka.Message{Topic: contract.TopicOrders, Value: []byte("{"), Headers: []kafka.Header{
		{Key: "ce_type", Value: []byte(contract.OrderPlacedType)}}}
	messages := []kafka.Message{
		published(lost.PlacedEvent(currencies, false)), nonsense, unread,
		published(broken.PlacedEvent(currencies, false)),
		published(gone.PlacedEvent(currencies, false)),
		published(gone.CancelledEvent(currencies, "changed my mind", time.Now(), false)),
		published(overtaken.CancelledEvent(currencies, "", time.Now(), true)),
		published(overtaken.PlacedEvent(currencies, true)),
		published(there.PlacedEvent(currencies, false)),
	}
	r := Recovery{Store: b.store, Currencies: currencies}
	for _, batch := range [][]kafka.Message{nil, messages, messages, messages[:1], messages[5:6]} {
		if err := r.Handle(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if r.Orders != 3 || r.Cancellations != 2 {
		t.Errorf("%d orders and %d cancellations were brought back", r.Orders, r.Cancellations)
	}
	if len(r.LeftOut) != 6 || !strings.Contains(strings.Join(r.LeftOut, "\n"), "capture") {
		t.Errorf("left out are %q", r.LeftOut)
	}
	for id, want := range map[uuid.UUID]struct {
		status order.Status
		note   string
		tenant string
	}{
		lost.ID: {order.Pending, "", "shop"}, gone.ID: {order.Cancelling, "changed my mind", "shop"},
		overtaken.ID: {order.Cancelling, "", "shop"}, there.ID: {order.Pending, "", identity.DefaultTenant},
	} {
		o, err := b.store.Order(t.Context(), identity.Reach{Tenant: want.tenant}, id)
		if err != nil || o.Status != want.status || o.Note != want.note {
			t.Errorf("%s is %s, %q, %v; not %+v", id, o.Status, o.Note, err, want)
		}
	}
	_, err = b.store.Order(t.Context(), identity.Reach{Tenant: "shop"}, broken.ID)
	if !errors.Is(err, postgres.ErrNotFound) {
		t.Errorf("what the database refuses is there: %v", err)
	}
}
