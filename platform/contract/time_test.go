package contract_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/platform/contract"
)

func TestTimesHaveSixDigits(t *testing.T) {
	for read, want := range map[string]string{
		"2026-01-15T09:30:00Z":                "2026-01-15T09:30:00.000000Z",
		"2026-01-15T09:30:00.5Z":              "2026-01-15T09:30:00.500000Z",
		"2026-01-15T09:30:00.123456999+23:59": "2026-01-14T09:31:00.123456Z",
		"1969-12-31T23:59:59.9999999Z":        "1969-12-31T23:59:59.999999Z",
		"0001-01-01T00:00:00Z":                "0001-01-01T00:00:00.000000Z",
	} {
		var at contract.Time
		if err := json.Unmarshal([]byte(`"`+read+`"`), &at); err != nil {
			t.Fatal(err)
		}
		if text, err := json.Marshal(struct {
			At contract.Time `json:"at"`
		}{at}); err != nil || string(text) != `{"at":"`+want+`"}` || at.String() != want {
			t.Errorf("%s: %s, %v", read, text, err)
		}
	}
	empty, err := json.Marshal(struct {
		At    contract.Time  `json:"at,omitzero"`
		Until *contract.Time `json:"until,omitempty"`
	}{})
	if err != nil || string(empty) != "{}" {
		t.Errorf("none: %s, %v", empty, err)
	}
	if _, err := json.Marshal(contract.Time(time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC))); err == nil {
		t.Error("a year of five digits was written")
	}
}
