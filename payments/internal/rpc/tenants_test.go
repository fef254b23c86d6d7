package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"

	paymentsv1 "github.com/altyn-pay/altyn/payments/api/altyn/payments/v1"
	"github.com/altyn-pay/altyn/payments/api/altyn/payments/v1/paymentsv1connect"
	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/issuer"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// shop has an order of alice whose money is held.
type shop struct {
	*bundle
	tokens         *issuer.Issuer
	account, order uuid.UUID
	clients        map[string]paymentsv1connect.PaymentServiceClient // by protocol
}

func openShop(t *testing.T) *shop {
	s := &shop{bundle: setup(t), tokens: issuer.New(t), account: uuid.New()}
	s.Settings.Auth = s.tokens.Config()
	s.Start("all")
	wait.Until(t, "the keys are there", func() bool { return s.Call("GET", "/readyz", nil).Status == 200 })
	boss := []string{"Authorization", "Bearer " + s.tokens.Token("shop", "boss", issuer.Scopes)}
	s.Post("/api/v1/accounts", map[string]any{"id": s.account, "owner": "alice"}, boss...)
	s.Post("/api/v1/accounts/"+s.account.String()+"/deposits", `{"amount": "100", "currency": "RUB"}`, boss...)
	s.order = s.place(func(o *contract.Order) { o.Capture = contract.CaptureManual }, contract.PaymentAuthorized)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	s.clients = make(map[string]paymentsv1connect.PaymentServiceClient)
	for name, options := range map[string][]connect.ClientOption{
		"gRPC": {connect.WithGRPC()}, "gRPC-Web": {connect.WithGRPCWeb()}, "Connect": nil,
		"Connect by GET": {connect.WithHTTPGet()},
	} {
		s.clients[name] = paymentsv1connect.NewPaymentServiceClient(&http.Client{Transport: transport}, s.URL, options...)
	}
	return s
}

// place places an order of the shop, and waits until its payment has a status.
func (s *shop) place(change func(*contract.Order), status string) uuid.UUID {
	s.Helper()
	order := paymentstest.Order(s.account, "10.00")
	change(&order)
	event := paymentstest.Placed(order)
	event.Headers = append(event.Headers, kafka.Header{Key: "ce_tenant", Value: []byte("shop")})
	s.Produce(event)
	s.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = $2`, order.OrderID, status)
	return order.OrderID
}

// as is a call's context with a token.
func as(ctx context.Context, token string) context.Context {
	ctx, call := connect.NewClientContext(ctx)
	call.RequestHeader().Set("Authorization", "Bearer "+token)
	return ctx
}

// procedures are the service's, about an order or an account.
var procedures = map[string]func(c paymentsv1connect.PaymentServiceClient, ctx context.Context, order,
	account string) error{
	"GetPayment": func(c paymentsv1connect.PaymentServiceClient, ctx context.Context, order, _ string) error {
		_, err := c.GetPayment(ctx, &paymentsv1.GetPaymentRequest{OrderId: order})
		return err
	},
	"GetBalance": func(c paymentsv1connect.PaymentServiceClient, ctx context.Context, _, account string) error {
		_, err := c.GetBalance(ctx, &paymentsv1.GetBalanceRequest{AccountId: account})
		return err
	},
	"ConfirmPayment": func(c paymentsv1connect.PaymentServiceClient, ctx context.Context, order, _ string) error {
		_, err := c.ConfirmPayment(ctx, &paymentsv1.ConfirmPaymentRequest{OrderId: order, IdempotencyKey: "k"})
		return err
	},
	"RejectPayment": func(c paymentsv1connect.PaymentServiceClient, ctx context.Context, order, _ string) error {
		_, err := c.RejectPayment(ctx, &paymentsv1.RejectPaymentRequest{OrderId: order, IdempotencyKey: "k"})
		return err
	},
	"RefundPayment": func(c paymentsv1connect.PaymentServiceClient, ctx context.Context, order, _ string) error {
		_, err := c.RefundPayment(ctx, &paymentsv1.RefundPaymentRequest{OrderId: order, IdempotencyKey: "k"})
		return err
	},
}

// TestWhatIsAnothersIsNotThere calls every procedure as a stranger, over every protocol: the answer about what is
// another's is the one about what is not there, and nothing happens.
func TestWhatIsAnothersIsNotThere(t *testing.T) {
	s := openShop(t)
	methods := paymentsv1.File_altyn_payments_v1_payment_service_proto.Services().ByName("PaymentService").Methods()
	strangers := map[string]string{
		"another tenant":       s.tokens.Token("market", "boss", issuer.Scopes),
		"the default tenant":   s.tokens.Token("default", "boss", issuer.Scopes),
		"the owner's namesake": s.tokens.Token("market", "alice", issuer.Scopes),
		"another owner": s.tokens.Token("shop", "bob",
			"payments:read.own payments:write.own accounts:read.own"),
	}
	// shape is an error without the operation's ID, which is a new one each time.
	shape := func(err error) string {
		if failed := (*connect.Error)(nil); errors.As(err, &failed) {
			text := fmt.Sprint(failed.Code(), failed.Message(), failed.Meta().Get("WWW-Authenticate"))
			for _, detail := range failed.Details() {
				text += detail.Type()
			}
			return text
		}
		return fmt.Sprint(err)
	}
	for i := range methods.Len() {
		name := string(methods.Get(i).Name())
		call, ok := procedures[name]
		if !ok {
			t.Errorf("no test calls %s: add it to procedures", name)
			continue
		}
		for protocol, client := range s.clients {
			for who, token := range strangers {
				there := call(client, as(t.Context(), token), s.order.String(), s.account.String())
				absent := call(client, as(t.Context(), token), uuid.NewString(), uuid.NewString())
				if connect.CodeOf(there) != connect.CodeNotFound || shape(there) != shape(absent) {
					t.Errorf("%s of %s over %s: %v\nwhere nothing is: %v", name, who, protocol, there, absent)
				}
			}
		}
	}
	alice := s.tokens.Token("shop", "alice", "payments:read.own payments:write.own accounts:read.own")
	s.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'authorized'`, s.order)
	s.Until(1, `SELECT count(*) FROM balances WHERE account_id = $1 AND (actual, frozen) = (9000, 1000)`, s.account)
	for _, name := range []string{"GetPayment", "GetBalance", "ConfirmPayment", "RefundPayment"} {
		if err := procedures[name](s.clients["gRPC"], as(t.Context(), alice), s.order.String(),
			s.account.String()); err != nil {
			t.Errorf("%s by the owner: %v", name, err)
		}
	}
}

// A call that waits is answered with what there is when its token expires.
func TestAWaitEndsWithItsToken(t *testing.T) {
	s := openShop(t)
	order := s.place(func(o *contract.Order) { o.AwaitInventory = true }, contract.PaymentCreated)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // the wait is longer
	defer cancel()
	for protocol, client := range s.clients {
		token := s.tokens.Mint(issuer.Claims{"tenant": "shop", "sub": "boss", "scope": issuer.Scopes,
			"exp": time.Now().Add(2 * time.Second).Unix()}, nil, s.tokens.Key())
		answer, err := client.GetPayment(as(ctx, token), &paymentsv1.GetPaymentRequest{OrderId: order.String(),
			Wait: durationpb.New(30 * time.Second)})
		if err != nil || answer.GetPayment().GetStatus() != paymentsv1.PaymentStatus_PAYMENT_STATUS_CREATED {
			t.Errorf("%s: %v, %v", protocol, answer, err)
		}
	}
}
