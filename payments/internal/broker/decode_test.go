package broker

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// Whose answer a reply is, and to what, is known of every command that is a JSON object, whatever else is wrong with
// it.
func TestACommandsIdentity(t *testing.T) {
	own, header := uuid.New(), uuid.New()
	for _, test := range []struct {
		name, value string
		want        uuid.UUID
		operation   string
		wrong, dead bool
	}{
		{name: "its own ID", value: `{"command_id":"` + own.String() + `","operation":"deposit"}`,
			want: own, operation: "deposit"},
		{name: "the event's", value: `{"operation":"deposit"}`, want: header, operation: "deposit"},
		{name: "null", value: `{"command_id":null,"operation":"deposit"}`, want: header, operation: "deposit"},
		{name: "no UUID", value: `{"command_id":"7","operation":"deposit"}`, operation: "deposit", wrong: true},
		{name: "nil", value: `{"command_id":"` + uuid.Nil.String() + `","operation":"deposit"}`,
			operation: "deposit", wrong: true},
		{name: "an unknown field", value: `{"command_id":"` + own.String() + `","operation":"deposit","x":1}`, want: own,
			operation: "deposit", wrong: true},
		{name: "half a surrogate",
			value: `{"command_id":"` + own.String() + `","operation":"deposit","reference":"\ud83d"}`, want: own,
			operation: "deposit", wrong: true},
		{name: "another name twice",
			value: `{"operation":"deposit","reference":"a","reference":"b","command_id":"` + own.String() + `"}`, want: own,
			operation: "deposit", wrong: true},
		{name: "its ID twice",
			value:     `{"command_id":"` + own.String() + `","operation":"deposit","command_id":"` + own.String() + `"}`,
			operation: "deposit", wrong: true},
		{name: "in another case", value: `{"COMMAND_ID":"` + own.String() + `","operation":"deposit"}`, want: header,
			operation: "deposit", wrong: true},
		{name: "in braces", value: `{"command_id":"{` + own.String() + `}","operation":"deposit"}`,
			operation: "deposit", wrong: true},
		{name: "a URN and more", value: `{"command_id":"urn:uuid:` + own.String() + `","operation":"deposit","x":1}`,
			operation: "deposit", wrong: true},
		{name: "a field of another type", value: `{"operation":7,"command_id":"` + own.String() + `"}`,
			want: own, wrong: true},
		{name: "no object", value: `[]`, dead: true},
		{name: "null alone", value: `null`, dead: true},
		{name: "nothing", value: ``, dead: true},
	} {
		record := kafka.Message{Topic: contract.TopicCommands, Value: []byte(test.value),
			Headers: kafka.Event{ID: header.String()}.Headers()}
		c, err := receive(Record{Message: record, Who: identity.Everyone})
		if test.dead {
			if err == nil {
				t.Errorf("%s: it was read", test.name)
			}
			continue
		}
		if err != nil || c.reply.CommandID != test.want || c.reply.Operation != test.operation ||
			(c.problem != nil) != test.wrong {
			t.Errorf("%s: %v, %+v", test.name, err, c)
		}
	}
	for _, id := range []string{"{" + header.String() + "}", "urn:uuid:" + header.String(),
		strings.ReplaceAll(header.String(), "-", "")} {
		record := kafka.Message{Topic: contract.TopicCommands, Value: []byte(`{"operation":"deposit"}`),
			Headers: kafka.Event{ID: id}.Headers()}
		c, err := receive(Record{Message: record, Who: identity.Everyone})
		if err != nil || c.problem == nil || c.reply.CommandID != uuid.Nil {
			t.Errorf("ce_id %s: %v, %+v", id, err, c)
		}
	}
}

// What other services and systems send is read like requests, but for names that mean nothing here.
func TestEventsAreReadStrictly(t *testing.T) {
	order, account := uuid.NewString(), uuid.NewString()
	currencies, err := money.LoadCurrencies("")
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range []struct {
		name, valid string
		read        func(payload []byte) error
	}{
		{"order.placed",
			`{"order_id": "` + order + `", "account_id": "` + account + `", "amount": "1.00",
				"currency": "RUB", "capture": "manual", "created_at": "2026-01-01T00:00:00Z", "reference": "r"}`,
			func(payload []byte) error {
				_, err := orderPlaced(currencies, payload)
				return err
			}},
		{"order.cancelled",
			`{"order_id": "` + order + `", "account_id": "` + account + `", "amount": "1.00",
				"currency": "RUB", "capture": "manual", "created_at": "2026-01-01T00:00:00Z",
				"cancelled_at": "2026-01-01T00:00:00Z"}`, func(payload []byte) error {
				_, err := orderCancelled(currencies, payload)
				return err
			}},
	} {
		for name, change := range map[string]struct {
			from, to string
			right    bool
		}{
			"as it is":         {"", "", true},
			"a new name":       {`{"`, `{"colour": {"x": [1]}, "`, true},
			"a name twice":     {`{"`, `{"order_id": "` + order + `", "`, false},
			"another case":     {`"order_id"`, `"Order_ID"`, false},
			"both cases":       {`{"`, `{"ORDER_ID": "` + account + `", "`, false},
			"half a surrogate": {`{"`, `{"colour": "\ud83d", "`, false},
			"NUL":              {`{"`, `{"colour": "\u0000", "`, false},
			"braces":           {order, "{" + order + "}", false},
			"a URN":            {order, "urn:uuid:" + order, false},
			"no dashes":        {order, strings.ReplaceAll(order, "-", ""), false},
			"two objects":      {`{"`, `{}{"`, false},
		} {
			if err := event.read([]byte(strings.Replace(event.valid, change.from, change.to, 1))); (err == nil) != change.right {
				t.Errorf("%s, %s: %v", event.name, name, err)
			}
		}
	}
}

// everyones are records of which nobody asks who has sent them.
func everyones(messages []kafka.Message) []Record {
	records := make([]Record, len(messages))
	for i, m := range messages {
		records[i] = Record{Message: m, Who: identity.Everyone}
	}
	return records
}

// A panic while a message is read, here for want of the currencies, is the reason why that one cannot be read, and
// none of the others' business.
func TestAPanicConcernsOneMessage(t *testing.T) {
	db := postgrestest.Database(t, "payments", postgres.Migrations()...)
	decoder := NewDecoder(postgres.New(db.Service), nil, func(context.Context, string) (bool, error) { return true, nil })
	id, account := uuid.NewString(), uuid.NewString()
	command := func(fields string) kafka.Message {
		return kafka.Message{Topic: contract.TopicCommands, Value: []byte(`{"command_id": "` + id + `", ` + fields + `}`)}
	}
	placed := []byte(
		`{"order_id": "` + id + `", "account_id": "` + account + `", "amount": "1.00",
			"currency": "RUB", "capture": "manual", "created_at": "2026-01-01T00:00:00Z"}`)
	records := []kafka.Message{
		command(`"operation": "create_account"`),
		{Topic: contract.TopicOrders, Value: placed, Headers: kafka.Event{Type: contract.OrderPlacedType}.Headers()},
		command(`"operation": "deposit", "account_id": "` + account + `", "amount": "1.00", "currency": "RUB"`),
		{Topic: contract.TopicCommands, Offset: 7, Unreadable: &kafka.UnreadableError{First: 7, Last: 9,
			Cause: errors.New("it is damaged")}},
		command(`"operation": "balance", "account_id": "` + account + `"`),
	}
	messages, reasons, err := decoder.Decode(t.Context(), everyones(records))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", "panicked", "panicked", "offsets 7 to 9 cannot be read: it is damaged", ""} {
		if want == "" && (reasons[i] != nil || messages[i].ID == uuid.Nil) || want != "" &&
			(reasons[i] == nil || !strings.Contains(reasons[i].Error(), want)) {
			t.Errorf("record %d: %v, want %q", i, reasons[i], want)
		}
	}
}
