package system

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// tenants are those of the model. All of their parties use the same keys, IDs of commands and references.
var tenants = []string{identity.DefaultTenant, "shop", "market"}

// party is who asks: a tenant, or one subject of it, who reaches only what is its own.
type party struct {
	*trial
	reference string // of all that has one in this play
	reach     identity.Reach
	subject   string
	token     string
	client    *load.Client // over HTTP, through the gateway
	prefix    string       // of its keys
	keys      int

	mu   sync.Mutex
	sent []request
}

// newParty returns the n-th party: of one tenant after the other, and of four of a tenant's the last one is restricted
// to its subject.
func (s *trial) newParty(run string, n int) (*party, error) {
	tenant, nth := tenants[n%len(tenants)], n/len(tenants)
	p := &party{trial: s, reference: run, subject: fmt.Sprintf("%s-%d", run, n), prefix: fmt.Sprintf("%s-%d-", run, nth),
		reach: identity.Reach{Tenant: tenant}}
	scopes := load.Scopes()
	if nth%4 == 3 {
		p.reach.Owner = p.subject
		for i, scope := range scopes {
			if identity.Scope(scope).HasOwn() {
				scopes[i] += ".own"
			}
		}
	}
	var err error
	p.token, err = s.Token(s.Context(), p.subject, tenant, scopes...)
	p.client = s.client.As(p.token)
	return p, err
}

// reaches tells whether what another party has is there for this one.
func (p *party) reaches(other *party) bool { return p.reach.Covers(other.reach.Tenant, other.subject) }

// key returns a fresh key for requests. Parties of other tenants use the same ones.
func (p *party) key() string {
	p.keys++
	return p.prefix + fmt.Sprint(p.keys)
}

// open opens accounts, each with a sum in the first currency.
func (p *party) open(amount string) (accounts []uuid.UUID, err error) {
	for range accountsOfEach {
		var account struct{ ID uuid.UUID }
		body := map[string]string{"owner": p.subject, "reference": p.reference}
		key := p.key()
		if err := p.client.Retry(p.Context(), "/api/v1/accounts", key, body, &account); err != nil {
			return nil, fmt.Errorf("open account: %w", err)
		}
		if !p.things.add(anAccount, account.ID, p) {
			return nil, fmt.Errorf("two parties have got the account %s", account.ID)
		}
		accounts = append(accounts, account.ID)
		deposit := map[string]string{"amount": amount, "currency": currencies[0]}
		if err := p.client.Retry(p.Context(), "/api/v1/accounts/"+account.ID.String()+"/deposits", key, deposit,
			nil); err != nil {
			return nil, fmt.Errorf("deposit: %w", err)
		}
	}
	return accounts, nil
}

// bearer is the headers of a message with the party's token.
func (p *party) bearer() []kafka.Header {
	return []kafka.Header{{Key: contract.AuthorizationHeader, Value: []byte("Bearer " + p.token)}}
}

// tell says on the topic what became of orders' goods.
func (p *party) tell(key uuid.UUID, messages ...contract.Inventory) error {
	return p.tellWith(p.bearer(), key, messages...)
}

// command sends a command over the broker, and waits for its reply on a topic of the tenant.
func (p *party) command(patience time.Duration, fields map[string]any,
	key, topic, replyTo string) (contract.Reply, error) {
	ctx, cancel := context.WithTimeout(p.Context(), patience)
	defer cancel()
	id := commandID(key)
	fields = maps.Clone(fields)
	fields["command_id"] = id
	value, err := json.Marshal(fields)
	if err != nil {
		return contract.Reply{}, err
	}
	return p.teller.send(ctx, question{topic, id}, kafka.Message{
		Topic: contract.TopicCommands, Key: id[:], Value: value,
		Headers: append(p.bearer(), kafka.Header{Key: contract.ReplyToHeader, Value: []byte(replyTo)}),
	})
}

// commandID is the ID of the command of a key.
func commandID(key string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceURL, []byte(key)) }

// replies is the topic for replies to a tenant, and guesses that for replies to what its parties guess.
func replies(tenant string) string { return contract.ReplyToPrefix + tenant }
func guesses(tenant string) string { return replies(tenant) + ".guesses" }

// plainJSON is the JSON of gRPC for values that are no messages of protobuf.
type plainJSON struct{}

func (plainJSON) Name() string                           { return "json" }
func (plainJSON) Marshal(value any) ([]byte, error)      { return json.Marshal(value) }
func (plainJSON) Unmarshal(text []byte, value any) error { return json.Unmarshal(text, value) }

// newRPC returns what speaks gRPC, which is HTTP/2.
func newRPC() *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: transport}
}

// call calls a procedure of payments over gRPC, of any instance, until it is answered. It returns the reason of a
// refusal.
func (p *party) call(procedure string, in map[string]any, out any) (reason string, err error) {
	ctx, cancel := context.WithTimeout(p.Context(), p.patience)
	defer cancel()
	for {
		url := p.URL(instances[rand.IntN(len(instances))]) + "/altyn.payments.v1.PaymentService/" + procedure
		client := connect.NewClient[map[string]any, json.RawMessage](p.rpc, url, connect.WithGRPC(),
			connect.WithCodec(plainJSON{}))
		request := connect.NewRequest(&in)
		request.Header().Set("Authorization", "Bearer "+p.token)
		response, err := client.CallUnary(ctx, request)
		if err == nil {
			return "", json.Unmarshal(*response.Msg, out)
		}
		switch connect.CodeOf(err) {
		case connect.CodeUnavailable, connect.CodeUnknown, connect.CodeInternal, connect.CodeCanceled:
		default:
			if reason := reasonOf(err); reason != "" {
				return reason, nil
			}
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", errors.Join(ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// instances are those of payments.
var instances = []string{"payments", "payments-2"}

func reasonOf(err error) string {
	var answer *connect.Error
	if !errors.As(err, &answer) {
		return ""
	}
	for _, detail := range answer.Details() {
		if value, err := detail.Value(); err == nil {
			if info, ok := value.(*errdetails.ErrorInfo); ok {
				return info.GetReason()
			}
		}
	}
	return ""
}

// answer is what came back of a request, over whichever protocol: the code of a refusal, or an ID and a deadline.
type answer struct {
	code      string
	ID        uuid.UUID  `json:"id"`
	Operation uuid.UUID  `json:"operation_id"`
	ExpiresAt *time.Time `json:"expires_at"`
}

// ask sends a request.
func (p *party) ask(r request) (a answer, err error) {
	switch {
	case r.command != nil:
		reply, err := p.command(p.patience, r.command, r.key, replies(p.reach.Tenant), replies(p.reach.Tenant))
		if err == nil && reply.Code >= 500 {
			err = fmt.Errorf("%+v", reply)
		}
		if a.code = reply.Reason; reply.OperationID != nil {
			a.ID = *reply.OperationID
		}
		return a, err
	case r.procedure != "":
		a.code, err = p.call(r.procedure, r.rpc(), &a)
		return a, err
	}
	err = p.client.Retry(p.Context(), r.path, r.key, r.body, &a)
	var refused *load.StatusError
	if errors.As(err, &refused) && refused.Status < 500 && refused.Code() != "" {
		err = json.Unmarshal([]byte(refused.Body), &a)
		a.code, a.ID = refused.Code(), a.Operation
	}
	return a, err
}

// rpc is the request's message over gRPC.
func (r request) rpc() map[string]any {
	in := map[string]any{"orderId": r.order, "idempotencyKey": r.key, "wait": "30s"}
	for name, value := range r.body.(map[string]string) {
		in[name] = value
	}
	return in
}

// balance reads what an account has, over one of two protocols.
func (p *party) balance(account uuid.UUID) (actual, frozen map[string]string, err error) {
	if rand.IntN(2) == 0 {
		var b contract.Balances
		err = p.client.Get(p.Context(), "/api/v1/accounts/"+account.String()+"/balance", &b)
		return b.Actual, b.Frozen, err
	}
	var b struct {
		Actual map[string]string `json:"actualBalance"`
		Frozen map[string]string `json:"frozenBalance"`
	}
	return b.Actual, b.Frozen, p.read("GetBalance", map[string]any{"accountId": account}, &b)
}

// payment reads an order's payment, over one of two protocols.
func (p *party) payment(order uuid.UUID) (contract.Payment, error) {
	if rand.IntN(2) == 0 {
		var got contract.Payment
		err := p.client.Get(p.Context(), "/api/v1/payments/"+order.String(), &got)
		return got, err
	}
	var b struct {
		Payment struct{ Status, Reason, CapturedAmount, RefundedAmount string }
	}
	err := p.read("GetPayment", map[string]any{"orderId": order}, &b)
	return contract.Payment{
		Status: strings.ToLower(strings.TrimPrefix(b.Payment.Status, "PAYMENT_STATUS_")), Reason: b.Payment.Reason,
		CapturedAmount: b.Payment.CapturedAmount, RefundedAmount: b.Payment.RefundedAmount,
	}, err
}

func (p *party) read(procedure string, in map[string]any, out any) error {
	reason, err := p.call(procedure, in, out)
	if err == nil && reason != "" {
		err = &load.StatusError{Status: http.StatusNotFound, Body: fmt.Sprintf(`{"code":%q}`, reason)}
	}
	return err
}

// seesItsOwn expects the lists of what has the run's reference to have all that the party reaches, and nothing else.
func (p *party) seesItsOwn() error {
	for path, kind := range map[string]kind{"/api/v1/accounts": anAccount, load.OrdersPath: anOrder} {
		var seen []uuid.UUID
		for cursor := ""; ; {
			var page struct {
				Items      []struct{ ID uuid.UUID }
				NextCursor string `json:"next_cursor"`
			}
			if err := p.client.Get(p.Context(), path+"?limit=200&reference="+p.reference+cursor, &page); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			for _, item := range page.Items {
				seen = append(seen, item.ID)
			}
			if page.NextCursor == "" {
				break
			}
			cursor = "&cursor=" + page.NextCursor
		}
		want := p.things.of(kind, p.reaches)
		byText := func(a, b uuid.UUID) int { return cmp.Compare(a.String(), b.String()) }
		slices.SortFunc(seen, byText)
		slices.SortFunc(want, byText)
		if !slices.Equal(seen, want) {
			return fmt.Errorf("%+v sees %d of %s, and has %d", p.reach, len(seen), path, len(want))
		}
	}
	return nil
}
