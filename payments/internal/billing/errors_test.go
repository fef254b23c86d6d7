package billing_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/groupcommit"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Every reason of the ledger has the status under which docs/errors.md lists it.
func TestReasonsHaveTheirStatuses(t *testing.T) {
	read := func(path, pattern string) [][]string {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1)
		if len(found) < 20 {
			t.Fatalf("%s has only %d of %s", path, len(found), pattern)
		}
		return found
	}
	listed := map[string]string{}
	for _, row := range read("../../../docs/errors.md", "(?m)^\\| (\\d*) ?\\|? ?`(\\w+)` \\|") {
		listed[row[2]] = row[1]
	}
	for _, reason := range read("../ledger/operation.go", `\bReason += "(\w+)"`) {
		status, ok := listed[reason[1]]
		if !ok {
			t.Errorf("docs/errors.md lacks %s", reason[1])
		}
		if status == "" { // a reason for which something waits
			continue
		}
		if p := billing.Problem(&billing.Refusal{Reason: ledger.Reason(reason[1])}); strconv.Itoa(p.Status) != status ||
			p.Code != reason[1] {
			t.Errorf("%s is %d %s, docs/errors.md says %s", reason[1], p.Status, p.Code, status)
		}
	}
}

// One table says what an error is over HTTP, over gRPC and in a reply.
func TestWhatErrorsAre(t *testing.T) {
	lost := pg.OutcomeUnknown(errors.New("secret"))
	for _, test := range []struct {
		err    error
		status int
		code   string
		grpc   codes.Code
		detail string // of a reply
	}{
		{contract.Invalid("amount", "is too large"), 400, "validation_failed", codes.InvalidArgument, "amount is too large"},
		{&billing.Refusal{Reason: ledger.HoldNotFound}, 404, "hold_not_found", codes.NotFound, "there is no such hold"},
		{&billing.Refusal{Reason: ledger.InsufficientFunds, Operation: uuid.New()}, 422, "insufficient_funds",
			codes.FailedPrecondition,
			"the operation ended in error: insufficient funds"},
		{idempotency.ErrReused, 422, "idempotency_key_reused", codes.FailedPrecondition, ""},
		{&identity.MissingScope{Scope: identity.MoneyOut}, 403, "insufficient_scope", codes.PermissionDenied,
			"the token lacks the scope money:out"},
		{httpserver.Unauthenticated("invalid_token", "the token has expired"), 401, "unauthenticated",
			codes.Unauthenticated, "the token has expired"},
		{lost, 503, "outcome_unknown", codes.Unknown, "it is not known whether this was done"},
		{groupcommit.ErrBusy, 503, "overloaded", codes.Unavailable,
			"there is no room for more at the moment; try again later"},
		{outbox.ErrFull, 503, "overloaded", codes.Unavailable, "there is no room for more at the moment; try again later"},
		{driver.ErrBadConn, 503, "unavailable", codes.Unavailable,
			"the service cannot do this at the moment; try again shortly"},
		{context.DeadlineExceeded, 503, "unavailable", codes.Unavailable,
			"the service cannot do this at the moment; try again shortly"},
	} {
		err := fmt.Errorf("somewhere: %w", test.err)
		p := billing.Problem(err)
		if p == nil || p.Status != test.status || p.Code != test.code || billing.GRPC(p) != test.grpc {
			t.Errorf("%v: %v", test.err, p)
			continue
		}
		var reply billing.ReplyTo
		reply.Refuse(err)
		if reply.Code != test.status || reply.Reason != test.code || reply.Detail != test.detail {
			t.Errorf("%v in a reply: %+v", test.err, reply)
		}
	}
	if p := billing.Problem(errors.New("a fault")); p != nil {
		t.Errorf("a fault: %v", p)
	}
}
