package main

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

func TestMalformedCommands(t *testing.T) {
	b := setup(t, "all")
	if err := kafka.EnsureTopics(t.Context(), b.broker, "billing.replies.mine", "elsewhere"); err != nil {
		t.Fatal(err)
	}
	a, id := b.Account("1.00"), uuid.New()
	replyTo := func(topic string) kafka.Header { return kafka.Header{Key: "reply_to", Value: []byte(topic)} }
	deposit := func(amount string, headers ...kafka.Header) kafka.Message {
		return paymentstest.Command(a,
			fmt.Sprintf(`{"command_id":"%s","operation":"deposit","account_id":"%s","amount":"%s","currency":"RUB"}`,
				uuid.New(), a, amount), headers...)
	}
	b.Produce(
		paymentstest.Command(a, `not json`), paymentstest.Command(a, `[]`), paymentstest.Command(a, `null`),
		paymentstest.Command(a, `{"operation":"deposit"}`),
		paymentstest.Command(a, `{"command_id":"nonsense","operation":"deposit"}`),
		paymentstest.Command(a,
			fmt.Sprintf(`{"command_id":"%s","operation":"deposit","account_id":"%s","amount":{},"currency":"RUB"}`, id, a)),
		paymentstest.Command(a,
			fmt.Sprintf(`{"command_id":"%s","operation":"deposit","account_id":"%s","amount":"1","currency":"RUB",
				"colour":"red"}`, id, a)),
		paymentstest.Command(a, fmt.Sprintf(`{"operation":"deposit","account_id":"%s","amount":"1","currency":"RUB"}`, a),
			kafka.Header{Key: "ce_id", Value: []byte(id.String())}),
		deposit("2", replyTo("billing.replies.mine")), deposit("3", replyTo("elsewhere")),
		deposit("4", replyTo("billing.replies.missing")),
	)
	if dead := b.Consume(contract.DeadLetter(contract.TopicCommands),
		func(m []kafka.Message) bool { return len(m) >= 3 }); len(dead) != 3 {
		t.Errorf("%d dead letters", len(dead))
	}
	counts := map[string]int{}
	for _, r := range b.Replies(7, contract.TopicReplies) {
		counts[fmt.Sprintf("%v %d %s %s", r.CommandID != nil, r.Code, r.Reason, r.Detail)]++
	}
	for want, n := range map[string]int{
		"false 400 validation_failed command_id must be a UUID": 2,
		"true 400 validation_failed the request is not valid: amount must be a decimal number such as \"2500.00\": " +
			"digits, with at most one point between them": 1,
		"true 400 unknown_field unknown field \"colour\"": 1,
		"true 201  ": 3,
	} {
		if counts[want] != n {
			t.Errorf("%d times %q: %v", counts[want], want, counts)
		}
	}
	if mine := b.Replies(1, "billing.replies.mine"); mine[0].Code != http.StatusCreated {
		t.Errorf("the reply elsewhere: %+v", mine)
	}
}
