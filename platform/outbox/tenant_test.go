package outbox

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// tenants are those of what was published with a key.
func (b *broker) tenants(key string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var tenants []string
	for _, m := range b.published {
		if m.Key == key {
			tenants = append(tenants, m.Tenant)
		}
	}
	return tenants
}

// of gives messages a tenant.
func of(tenant string, messages []Message) []Message {
	for i := range messages {
		messages[i].Tenant = tenant
	}
	return messages
}

// Messages of several tenants share rows. Whether they are published at once, wait, or are parked and put back, each
// keeps its tenant.
func TestMessagesKeepTheirTenants(t *testing.T) {
	b := setup(t)
	accept := b.failing(errRefused, func(m Message) bool { return m.Payload == "bad" })
	b.appendAll(slices.Concat(of("shop", messagesOf("a", "1", "bad", "2")), messagesOf("a", "3"),
		of("default", messagesOf("b", "1")), of("kiosk", messagesOf("b", "2")))...)
	relay, _ := b.run()
	b.until("a is parked", func() bool { return b.rows("outbox_parked") == 3 && b.rows("outbox") == 0 })
	accept()
	if _, err := NewParked(b.Service, relay.Wake).Redrive(t.Context(), b.list()[0].ID, unrecorded); err != nil {
		t.Fatal(err)
	}
	b.until("all is published", func() bool { return b.rows("outbox")+b.rows("outbox_parked") == 0 })
	for key, want := range map[string][]string{"a": {"shop", "shop", "shop", "default"}, "b": {"default", "kiosk"}} {
		if got := b.broker.tenants(key); !slices.Equal(got, want) {
			t.Errorf("%s: published for %q, want %q", key, got, want)
		}
	}
}

// What the default tenant has is stored as the versions before there were tenants stored it, and is read alike.
func TestRowsOfTheVersionBefore(t *testing.T) {
	id := "019b3c60-1f00-7b3a-a5c4-2e7d9b8a6c33"
	before := "36:" + id + ",12:order.placed,6:orders,1:k,1:s,2:{},0:,"
	m := Message{ID: uuid.MustParse(id), Type: "order.placed", Topic: "orders", Key: "k", Subject: "s", Payload: "{}"}
	for _, tenant := range []string{"", "default"} {
		if m.Tenant = tenant; m.row() != before {
			t.Errorf("tenant %q: %s", tenant, m.row())
		}
	}
	shop := m
	shop.Tenant = "shop"
	if want := "11:tenant=shop," + before; shop.row() != want || shop.size() < len(want) {
		t.Errorf("at most %d bytes: %s", shop.size(), shop.row())
	}
	got, err := Row{Messages: before + shop.row() + before}.Unpack()
	if err != nil || len(got) != 3 || got[0].Tenant != "default" || got[1].Tenant != "shop" || got[2].Tenant != "default" {
		t.Errorf("%+v: %v", got, err)
	}
	for _, text := range []string{"11:tenant=shop,", "11:tenant=shop," + shop.row(), strings.TrimSuffix(shop.row(), "0:,"),
		"11:Tenant=shop," + before} {
		if got, err := (Row{Messages: text}).Unpack(); err == nil {
			t.Errorf("%q has %+v", text, got)
		}
	}
}
