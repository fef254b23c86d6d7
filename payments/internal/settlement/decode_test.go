package settlement

import (
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// Whose answer a reply is, and to what, is known of every command that is a JSON object, whatever else is wrong with it.
func TestACommandsIdentity(t *testing.T) {
	own, header := uuid.New(), uuid.New()
	for _, test := range []struct {
		name, value string
		want        uuid.UUID
		operation   string
		wrong, dead bool
	}{
		{name: "its own ID", value: `{"command_id":"` + own.String() + `","operation":"deposit"}`, want: own, operation: "deposit"},
		{name: "the event's", value: `{"operation":"deposit"}`, want: header, operation: "deposit"},
		{name: "null", value: `{"command_id":null,"operation":"deposit"}`, want: header, operation: "deposit"},
		{name: "no UUID", value: `{"command_id":"7","operation":"deposit"}`, operation: "deposit", wrong: true},
		{name: "nil", value: `{"command_id":"` + uuid.Nil.String() + `","operation":"deposit"}`, operation: "deposit", wrong: true},
		{name: "an unknown field", value: `{"command_id":"` + own.String() + `","operation":"deposit","x":1}`, want: own, operation: "deposit", wrong: true},
		{name: "a field of another type", value: `{"operation":7,"command_id":"` + own.String() + `"}`, want: own, wrong: true},
		{name: "no object", value: `[]`, dead: true},
		{name: "null alone", value: `null`, dead: true},
		{name: "nothing", value: ``, dead: true},
	} {
		record := kafka.Message{Topic: contract.TopicCommands, Value: []byte(test.value), Headers: kafka.Event{ID: header.String()}.Headers()}
		c, err := receive(record)
		if test.dead {
			if err == nil {
				t.Errorf("%s: it was read", test.name)
			}
			continue
		}
		if err != nil || c.reply.CommandID != test.want || c.reply.Operation != test.operation || (c.problem != nil) != test.wrong {
			t.Errorf("%s: %v, %+v", test.name, err, c)
		}
	}
}
