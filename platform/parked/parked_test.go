package parked_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/parked"
)

func TestWhatAnItemShows(t *testing.T) {
	for _, test := range []struct{ payload, want string }{
		{`{"a": 1}`, `"payload":{"a":1}`}, {`not JSON`, `"payload":"not JSON"`},
		{"\xff\x00", `"payload":"` + "\uFFFD\uFFFD" + `"`},
	} {
		text, err := json.Marshal(parked.Item{Attempts: 1}.Show("events", []byte(test.payload)))
		if err != nil || !strings.Contains(string(text), test.want) || strings.Contains(string(text), "account_id") {
			t.Errorf("%q: %s, %v", test.payload, text, err)
		}
	}
	if text, err := json.Marshal(parked.Item{}.Show("events", nil)); err != nil ||
		strings.Contains(string(text), "payload") {
		t.Errorf("%s, %v", text, err)
	}
}
