package broker

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/platform/actions"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/issuer"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// setupAccess returns the access of those who have a token of an issuer.
func setupAccess(t *testing.T, log *strings.Builder,
	record func(context.Context, []actions.Action) error) (*issuer.Issuer, *Access) {
	t.Helper()
	from := issuer.New(t)
	tokens := bearer.New(bearer.Config{Auth: bearer.JWT, Issuers: []string{from.URL}, Audiences: []string{issuer.Audience},
		TenantClaim: "tenant"}, slog.New(slog.DiscardHandler))
	go func() { _ = tokens.Run(t.Context()) }() // it always returns nil
	wait.NoError(t, func() error { return tokens.Ready(t.Context()) })
	return from, NewAccess(tokens, slog.New(slog.NewTextHandler(log, nil)), record)
}

// A message is judged by its one token at the time at which the broker got it, so that none expires while it waits, and
// where that time is the writer's own, at the present one.
func TestAMessageIsJudgedAtItsTime(t *testing.T) {
	from, access := setupAccess(t, new(strings.Builder), nil)
	now := time.Now()
	lapsed := "Bearer " + from.Mint(issuer.Claims{"tenant": "shop", "sub": "till", "scope": "money:in",
		"nbf": now.Add(-3 * time.Hour).Unix(), "iat": now.Add(-3 * time.Hour).Unix(),
		"exp": now.Add(-time.Hour).Unix()}, nil, from.Key())
	valid := "Bearer " + from.Token("shop", "till", "money:in")
	for name, test := range map[string]struct {
		headers  []string
		appended bool
		at       time.Time
		refused  string
	}{
		"valid":         {headers: []string{valid}, appended: true, at: now},
		"lapsed since":  {headers: []string{lapsed}, appended: true, at: now.Add(-2 * time.Hour)},
		"lapsed before": {headers: []string{lapsed}, appended: true, at: now, refused: "expired"},
		"not yet valid": {headers: []string{valid}, appended: true, at: now.Add(-2 * time.Hour),
			refused: "not valid yet"},
		"lapsed, at the writer's time": {headers: []string{lapsed}, at: now.Add(-2 * time.Hour), refused: "expired"},
		"valid, at the writer's time":  {headers: []string{valid}, at: now.Add(-2 * time.Hour)},
		"none":                         {appended: true, at: now, refused: "a token is needed"},
		"two":                          {headers: []string{valid, valid}, appended: true, at: now, refused: "must come once"},
		"none but a word":              {headers: []string{"Bearer"}, appended: true, at: now, refused: "Bearer"},
		"of nobody":                    {headers: []string{"Bearer a.b.c"}, appended: true, at: now, refused: "not valid"},
	} {
		records, err := access.Judge(t.Context(), []kafka.Message{{Topic: contract.TopicCommands, Time: test.at,
			Appended: test.appended, Authorization: test.headers}})
		if err != nil {
			t.Fatal(err)
		}
		r := records[0]
		if test.refused == "" && (r.Refused != nil || r.Who.Tenant != "shop" || r.Who.Subject != "till") ||
			test.refused != "" && (r.Refused == nil || !strings.Contains(r.Refused.Error(), test.refused) ||
				r.Who != identity.Identity{}) || r.Authorization != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// What comes from a service of Altyn needs no token, and what cannot be judged yet is neither taken nor refused.
func TestWhatCannotBeJudged(t *testing.T) {
	from, access := setupAccess(t, new(strings.Builder), nil)
	records, err := access.Judge(t.Context(), []kafka.Message{{Topic: contract.TopicOrders}})
	if err != nil || records[0].Refused != nil || records[0].Who != (identity.Identity{}) {
		t.Errorf("an event: %v, %+v", err, records)
	}
	from.Away(true)
	without := bearer.New(bearer.Config{Auth: bearer.JWT, Issuers: []string{from.URL},
		Audiences: []string{issuer.Audience}}, slog.New(slog.DiscardHandler))
	if _, err := NewAccess(without, slog.New(slog.DiscardHandler), nil).Judge(t.Context(), []kafka.Message{{
		Topic: contract.TopicCommands, Authorization: []string{"Bearer " + from.Token("shop", "till", "money:in")},
	}}); !errors.Is(err, bearer.ErrNoKeys) {
		t.Errorf("without keys: %v", err)
	}
}

// A dead letter says whose it was, whatever its sender has written there. Only an operator can send it in that name,
// and that is logged.
func TestOnBehalfOf(t *testing.T) {
	var log strings.Builder
	var recorded []actions.Action
	var failure error
	from, access := setupAccess(t, &log, func(_ context.Context, list []actions.Action) error {
		recorded = append(recorded, list...)
		return failure
	})
	victim, err := json.Marshal(identity.Identity{Tenant: "victim", Scopes: identity.Everyone.Scopes})
	if err != nil {
		t.Fatal(err)
	}
	lies := []kafka.Header{{Key: contract.IdentityHeader, Value: victim}, {Key: kafka.DeadLetterIdentity, Value: victim},
		{Key: "ce_id", Value: []byte("1")}}
	judge := func(scope string, headers ...kafka.Header) Record {
		records, err := access.Judge(t.Context(), []kafka.Message{{Topic: contract.TopicInventory, Headers: headers,
			Authorization: []string{"Bearer " + from.Token("shop", "till", scope)}}})
		if err != nil {
			t.Fatal(err)
		}
		return records[0]
	}
	r := judge("inventory:write", lies...)
	if r.Refused != nil || r.Who.Tenant != "shop" || log.Len() > 0 || len(recorded) > 0 {
		t.Errorf("a sender who says to be another one is %+v, %s", r, &log)
	}
	dead := r.Dead()
	if len(dead.Headers) != 2 || dead.Header("ce_id") != "1" ||
		dead.Header(kafka.DeadLetterIdentity) != `{"tenant":"shop","sub":"till","scope":"inventory:write"}` {
		t.Errorf("its dead letter has the headers %v", dead.Headers)
	}
	if dead := (Record{Message: r.Message, Refused: errors.New("no token")}).Dead(); len(dead.Headers) != 1 {
		t.Errorf("a dead letter of nobody has the headers %v", dead.Headers)
	}
	again := judge("operator", kafka.Header{Key: contract.IdentityHeader,
		Value: []byte(dead.Header(kafka.DeadLetterIdentity))})
	if who := again.Who; who.Tenant != "shop" || who.Subject != "till" || who.Scopes.String() != "inventory:write" ||
		!strings.Contains(log.String(), "operator=till") || !strings.Contains(log.String(), "tenant=shop") {
		t.Errorf("put back it is of %+v, and the log says %s", again, &log)
	}
	if len(recorded) != 1 || recorded[0].Tenant != "shop" || recorded[0].Subject != "till" ||
		recorded[0].Object != "inventory/0/0" ||
		string(recorded[0].Detail) != `{"tenant":"shop","sub":"till","scope":"inventory:write"}` {
		t.Errorf("recorded is %+v", recorded)
	}
	// Delivered again it is the same action, and what cannot be recorded has no effect yet.
	failure = errors.New("the database is away")
	if _, err := access.Judge(t.Context(), []kafka.Message{{Topic: contract.TopicInventory,
		Headers:       []kafka.Header{{Key: contract.IdentityHeader, Value: victim}},
		Authorization: []string{"Bearer " + from.Token("staff", "olga", "operator")}}}); !errors.Is(err, failure) ||
		len(recorded) != 2 || recorded[1].ID != recorded[0].ID {
		t.Errorf("%v, recorded is %+v", err, recorded)
	}
	for _, text := range []string{"{", `{"tenant":""}`, `{"tenant":"a/b"}`, `{"tenant":"a","sub":"\u0000"}`, "null"} {
		if r := judge("operator", kafka.Header{Key: contract.IdentityHeader, Value: []byte(text)}); r.Refused == nil {
			t.Errorf("on behalf of %s: %+v", text, r)
		}
	}
}

// Replies go to topics of the sender's tenant, and to any where nobody is told apart; without a valid one to the
// tenant's own. The default tenant's own is also that of those who are not known.
func TestRepliesAreATenants(t *testing.T) {
	shop := identity.Identity{Tenant: "shop", Subject: "till"}
	for _, test := range []struct {
		asked string
		who   identity.Identity
		mine  bool
	}{
		{"billing.replies.shop", shop, true}, {"billing.replies.shop.till", shop, true},
		{"billing.replies.shop2", shop, false}, {"billing.replies.sho", shop, false},
		{"billing.replies.other", shop, false}, {"billing.replies.", shop, false}, {"billing.replies", shop, false},
		{"billing.replies.shop", identity.Identity{}, false}, {"billing.replies.", identity.Identity{}, false},
		{"billing.replies.other", identity.Everyone, true}, {"payments", identity.Everyone, false},
		{"billing.replies.default", identity.Everyone, true}, {"payments", shop, false}, {"", shop, false},
		{"", identity.Identity{Tenant: "default", Subject: "till"}, false}, {"", identity.Everyone, false},
		{"billing.replies.default", identity.Identity{Tenant: "default", Subject: "till"}, true},
		{"billing.replies.shop", identity.Identity{Tenant: "default", Subject: "till"}, false},
	} {
		want := contract.TopicReplies
		if test.mine {
			want = test.asked
		} else if test.who == shop {
			want = "billing.replies.shop"
		}
		if got := replies(test.asked, test.who); got != want {
			t.Errorf("%q of %q is answered on %q", test.asked, test.who.Tenant, got)
		}
	}
}
