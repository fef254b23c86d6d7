package contracttest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/contracttest"
)

// recorder is a test that notes its failures instead of failing.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func TestValidateMessage(t *testing.T) {
	const payload = `{"command_id":"019b3c61-4b80-7e5f-8a9b-4c6d8e0f1a44","operation":"balance","code":200,
		"status":"success","body":{"actual_balance":{"RUB":"1.00"},"frozen_balance":{"RUB":"0.00"}}}`
	event := kafka.Event{ID: "66dbaf13-0d0f-5535-8ed1-7af538f91c6c", Type: contract.ReplyType, Source: "/payments"}
	for name, test := range map[string]struct {
		headers []kafka.Header
		payload string
		want    string // part of the failure; none where it is empty
	}{
		"a reply":         {event.Headers(), payload, ""},
		"without headers": {nil, payload, "ce_id"},
		"of another type": {kafka.Event{ID: event.ID, Type: "billing.answer", Source: event.Source}.Headers(), payload,
			"ce_type"},
		"with another field": {event.Headers(), strings.Replace(payload, `"code"`, `"colour":"red","code"`, 1), "colour"},
	} {
		r := &recorder{TB: t}
		contracttest.ValidateMessage(r, kafka.Message{Topic: contract.TopicReplies, Headers: test.headers,
			Value: []byte(test.payload)})
		got := strings.Join(r.failures, "\n")
		if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: failures %q, want something about %q", name, got, test.want)
		}
	}
	contracttest.Validate(t, contract.TopicReplies, []byte(payload))
}
