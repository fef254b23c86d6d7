package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"github.com/altyn-pay/altyn/gateway/internal/upstream"
	"github.com/altyn-pay/altyn/platform/explain"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

const (
	// explainTimeout is how long a service has at most to say what it knows. The answer is made of what has come by then.
	explainTimeout = 5 * time.Second
	// maxExplanation bounds what a service says of an order.
	maxExplanation = 4 << 20
)

// explainer answers where an order is, by what both services say of it. Each sees the client's token and judges it.
type explainer struct {
	orders, payments *upstream.Upstream
	timeout          time.Duration
}

func (e *explainer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	httpserver.Handle(e.explain).ServeHTTP(w, r)
}

func (e *explainer) explain(w http.ResponseWriter, r *http.Request) error {
	id, err := httpserver.PathUUID(r, "id")
	if err != nil {
		return err
	}
	var orders, payments said
	var both sync.WaitGroup
	both.Go(func() { orders = e.ask(r, e.orders, explain.Orders, "/api/v1/orders/"+id.String()+"/explain") })
	both.Go(func() { payments = e.ask(r, e.payments, explain.Payments, "/api/v1/payments/"+id.String()+"/explain") })
	both.Wait()
	if orders.Explanation == nil && payments.Explanation == nil {
		return orders.refuse(w)
	}
	return httpserver.WriteJSON(w, http.StatusOK, explain.OfOrder(id, orders.Part, payments.Part, time.Now()))
}

// said is what a service has said of an order: its part, or an error or a problem.
type said struct {
	explain.Part
	problem *httpserver.Problem
	header  http.Header // of the problem
	err     error
}

// refuse answers as the service did.
func (s said) refuse(w http.ResponseWriter) error {
	if s.problem == nil {
		return s.err
	}
	for _, name := range []string{"Www-Authenticate", "Retry-After"} {
		if values := s.header[name]; values != nil {
			w.Header()[name] = values
		}
	}
	return s.problem
}

// ask asks a service.
func (e *explainer) ask(r *http.Request, service *upstream.Upstream, name, path string) said {
	ctx, cancel := context.WithTimeout(r.Context(), e.timeout)
	defer cancel()
	s, err := read(ctx, r, service, path)
	gap := explain.Gap{What: name}
	switch {
	case err != nil:
		if ctx.Err() != nil && r.Context().Err() == nil {
			err = fmt.Errorf("%w: %w", errUpstreamTimeout, err)
		}
		s = said{err: err}
		gap.Away, gap.Why = true, "it cannot be reached"
		if errors.Is(err, errUpstreamTimeout) {
			gap.Why = fmt.Sprintf("it did not answer within %s", e.timeout)
		}
	case s.problem == nil:
		return s
	case s.problem.Status == http.StatusNotFound:
		s.Unknown = true
		return s
	default:
		gap.Away, gap.Why = s.problem.Status != http.StatusForbidden, s.problem.Detail
	}
	s.Gap = &gap
	return s
}

// read reads what a service says. An error means that it has said nothing.
func read(ctx context.Context, r *http.Request, service *upstream.Upstream, path string) (s said, err error) {
	out, err := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if err != nil {
		return s, err
	}
	out.Header.Set("Accept", "application/json")
	if token := r.Header["Authorization"]; token != nil {
		out.Header["Authorization"] = token
	}
	rewrite(&httputil.ProxyRequest{In: r, Out: out})
	response, err := service.RoundTrip(out)
	if err != nil {
		return s, err
	}
	defer response.Body.Close()
	s.header = response.Header
	var into any = &s.Explanation
	if response.StatusCode != http.StatusOK {
		into = &s.problem
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxExplanation)).Decode(into); err != nil {
		return s, fmt.Errorf("%s %s: %w", response.Status, path, err)
	}
	return s, nil
}
