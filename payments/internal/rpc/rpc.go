// Package rpc is the gRPC of payments, altyn.payments.v1.PaymentService: the use cases of package billing as
// protobuf. Connect serves gRPC, gRPC-Web and its own protocol, which is plain JSON over HTTP, as routes of the
// router that serves the API: requests have the same IDs, traces, log lines and metrics, and count under the status
// that the API would answer with.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	paymentsv1 "github.com/altyn-pay/altyn/payments/api/altyn/payments/v1"
	"github.com/altyn-pay/altyn/payments/api/altyn/payments/v1/paymentsv1connect"
	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
)

const (
	maxMessage = 1 << 20 // bytes of a request, uncompressed
	// compressFrom is the size of an answer, in bytes, from which compressing it is worth while, where its client asks
	// for it.
	compressFrom = 1 << 10
)

// Service is altyn.payments.v1.PaymentService, with the services by which clients discover it and see its health.
type Service struct {
	billing *billing.Service
	ready   func(context.Context) bool
}

// New makes the service; ready is what its health says.
func New(b *billing.Service, ready func(context.Context) bool) *Service {
	return &Service{billing: b, ready: ready}
}

// scopes is what each procedure needs.
var scopes = map[protoreflect.Name]identity.Scope{
	"GetPayment":     identity.PaymentsRead,
	"GetBalance":     billing.Scope(ledger.KindBalanceQuery),
	"ConfirmPayment": billing.Scope(ledger.KindConfirm),
	"RejectPayment":  billing.Scope(ledger.KindReject),
	"RefundPayment":  billing.Scope(ledger.KindRefund),
}

// Routes are those of the service, one for each procedure.
func (s *Service) Routes() (routes []httpserver.Route) {
	add := func(method, pattern string, scope identity.Scope, handler http.Handler) {
		routes = append(routes, httpserver.NewRoute(method, pattern, scope, bodies(handler)))
	}
	options := handlerOptions()
	path, handler := paymentsv1connect.NewPaymentServiceHandler(s, options)
	methods := paymentsv1.File_altyn_payments_v1_payment_service_proto.Services().ByName("PaymentService").Methods()
	for i := range methods.Len() {
		method := methods.Get(i)
		scope, ok := scopes[method.Name()]
		if !ok {
			panic("rpc: nothing says what " + string(method.FullName()) + " needs")
		}
		add(http.MethodPost, path+string(method.Name()), scope, handler)
		if readsOnly(method) {
			add(http.MethodGet, path+string(method.Name()), scope, handler)
		}
	}
	path, handler = grpchealth.NewHandler(s, options)
	add(http.MethodPost, path+"Check", identity.Public, handler)
	add(http.MethodPost, path+"Watch", identity.Public, handler) // answers that it is not served
	return routes
}

// Reflection are the routes by which operators' tools discover the service.
func (s *Service) Reflection() (routes []httpserver.Route) {
	reflector := grpcreflect.NewStaticReflector(paymentsv1connect.PaymentServiceName, grpchealth.HealthV1ServiceName)
	for _, serve := range []func(*grpcreflect.Reflector, ...connect.HandlerOption) (string, http.Handler){
		grpcreflect.NewHandlerV1, grpcreflect.NewHandlerV1Alpha,
	} {
		path, handler := serve(reflector, handlerOptions())
		routes = append(routes,
			httpserver.NewRoute(http.MethodPost, path+"ServerReflectionInfo", identity.Operator, bodies(handler)))
	}
	return routes
}

func handlerOptions() connect.HandlerOption {
	return connect.WithHandlerOptions(
		strict, connect.WithReadMaxBytes(maxMessage), connect.WithCompressMinBytes(compressFrom),
		connect.WithInterceptors(connect.UnaryInterceptorFunc(outcomes)), connect.WithRecover(recovered),
	)
}

// readsOnly tells whether a method may be called by GET.
func readsOnly(method protoreflect.MethodDescriptor) bool {
	options, ok := method.Options().(*descriptorpb.MethodOptions)
	return ok && options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
}

// recovered makes an error of a panic, which is then logged with its request.
func recovered(_ context.Context, _ connect.Spec, _ http.Header, panicked any) error {
	return fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
}

// Check is the health of the service, or of the process ("").
func (s *Service) Check(ctx context.Context, r *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if r.Service != "" && r.Service != paymentsv1connect.PaymentServiceName {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("there is no such service"))
	}
	if !s.ready(ctx) {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
}

// GetPayment looks at the payment of an order.
func (s *Service) GetPayment(
	ctx context.Context, r *paymentsv1.GetPaymentRequest) (*paymentsv1.GetPaymentResponse, error) {
	order, err := httpserver.ParseID("order_id", r.GetOrderId())
	if err != nil {
		return nil, err
	}
	wait, err := wait(r.GetWait())
	if err != nil {
		return nil, err
	}
	payment, err := s.billing.Payment(ctx, identity.ReachFrom(ctx), order, wait)
	if err != nil {
		return nil, err
	}
	return &paymentsv1.GetPaymentResponse{Payment: message(payment)}, nil
}

// GetBalance tells what an account has.
func (s *Service) GetBalance(
	ctx context.Context, r *paymentsv1.GetBalanceRequest) (*paymentsv1.GetBalanceResponse, error) {
	account, err := httpserver.ParseID("account_id", r.GetAccountId())
	if err != nil {
		return nil, err
	}
	at, err := at(r.GetAt())
	if err != nil {
		return nil, err
	}
	balances, err := s.billing.Balances(ctx, identity.ReachFrom(ctx), account, at)
	if err != nil {
		return nil, err
	}
	return &paymentsv1.GetBalanceResponse{ActualBalance: balances.Actual, FrozenBalance: balances.Frozen}, nil
}
