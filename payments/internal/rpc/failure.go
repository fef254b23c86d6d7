package rpc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

const (
	domain = "altyn" // of the reasons in google.rpc.ErrorInfo
	// retryAfter is how long a client should wait before it repeats a request that may then succeed, as the API's
	// Retry-After.
	retryAfter = time.Second
)

// outcomes makes of a handler's error what the client sees.
func outcomes(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		if span := trace.SpanFromContext(ctx); span.IsRecording() {
			system := semconv.RPCSystemNameConnectrpc
			if request.Peer().Protocol != connect.ProtocolConnect {
				system = semconv.RPCSystemNameGRPC
			}
			span.SetAttributes(system, semconv.RPCMethod(strings.TrimPrefix(request.Spec().Procedure, "/")))
		}
		response, err := next(ctx, request)
		var answer *connect.Error
		if err == nil || errors.As(err, &answer) {
			return response, err
		}
		return nil, failure(ctx, err)
	}
}

// failure is the answer to an error: the problem that the HTTP API would answer with, its fields as details.
func failure(ctx context.Context, err error) *connect.Error {
	p := httpserver.Outcome(ctx, err)
	if p == nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return connect.NewError(connect.CodeDeadlineExceeded, errors.New("the deadline of the call is over"))
		}
		return connect.NewError(connect.CodeCanceled, errors.New("the call was cancelled"))
	}
	code := connect.Code(billing.GRPC(p))
	info := &errdetails.ErrorInfo{Reason: p.Code, Domain: domain}
	for name, value := range map[string]string{"operation_id": p.OperationID, "location": p.Location} {
		if value == "" {
			continue
		}
		if info.Metadata == nil {
			info.Metadata = make(map[string]string)
		}
		info.Metadata[name] = value
	}
	details := []proto.Message{info}
	if len(p.Errors) > 0 {
		bad := &errdetails.BadRequest{FieldViolations: make([]*errdetails.BadRequest_FieldViolation, len(p.Errors))}
		for i, field := range p.Errors {
			bad.FieldViolations[i] = &errdetails.BadRequest_FieldViolation{Field: field.Field, Description: field.Detail}
		}
		details = append(details, bad)
	}
	if code == connect.CodeUnavailable || p.Status == http.StatusTooManyRequests {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	}
	answer := connect.NewError(code, errors.New(p.Detail))
	for _, m := range details {
		// Only a text that is not UTF-8 cannot be encoded: the code and the message are worth more than such a detail.
		if detail, err := connect.NewErrorDetail(m); err == nil {
			answer.AddDetail(detail)
		}
	}
	return answer
}

// writer writes errors in the form of a request's protocol.
var writer = connect.NewErrorWriter()

// Render is the httpserver.Options.Render of this package's procedures: what the router refuses before a procedure is
// reached has the protocol's form too. Where there is no procedure, clients know what HTTP's status means.
func Render(w http.ResponseWriter, r *http.Request, p *httpserver.Problem) bool {
	service, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	served := p.Status != http.StatusNotFound && p.Status != http.StatusMethodNotAllowed
	if !strings.Contains(service, ".") || !served || !writer.IsSupported(r) {
		return false
	}
	_ = writer.Write(&withStatus{w, p.Status}, r, failure(r.Context(), p)) // a client that is gone misses nothing
	return true
}

// withStatus replaces the status of an error by that of the problem behind it: codes have statuses only roughly.
type withStatus struct {
	http.ResponseWriter
	status int
}

func (w *withStatus) WriteHeader(status int) {
	if status != http.StatusOK {
		status = w.status
	}
	w.ResponseWriter.WriteHeader(status)
}

// bodies is a middleware by which a body that takes too long, or finds no room, is answered as by the API.
func bodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = &body{r.Body, r.Context()}
		next.ServeHTTP(w, r)
	})
}

type body struct {
	io.ReadCloser
	ctx context.Context
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if known := (*httpserver.Problem)(nil); errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &known) {
		err = failure(b.ctx, httpserver.BodyProblem(err))
	}
	return n, err
}
