package main

import (
	"testing"

	"github.com/google/uuid"
)

func TestAWorkerServesNoGRPC(t *testing.T) {
	b := setup(t, "worker")
	if got := b.Call("POST", "/altyn.payments.v1.PaymentService/GetBalance",
		map[string]any{"account_id": uuid.New()}); got.Header.Get("Content-Type") != "application/problem+json" ||
		got.Body["code"] != "not_found" {
		t.Errorf("%v", got)
	}
}
