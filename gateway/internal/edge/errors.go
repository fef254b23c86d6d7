package edge

import (
	"errors"
	"net/http"

	"github.com/altyn-pay/altyn/gateway/internal/upstream"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

var (
	errTooManyStreams = errors.New("too many streams are open")
	// These two are why the gateway itself ends a request to a service. A stream ends in good order when the gateway
	// drains.
	errUpstreamTimeout = errors.New("the service did not answer in time")
	errDraining        = errors.New("the gateway drains")
)

// bodyError is what went wrong while a client's body was read.
type bodyError struct{ error }

func (e *bodyError) Unwrap() error { return e.error }

// specificationError is why the specification of a service cannot be served.
type specificationError struct {
	service string
	error
}

func (e *specificationError) Error() string {
	return "specification of " + e.service + ": " + e.error.Error()
}
func (e *specificationError) Unwrap() error { return e.error }

// problemOf is the one table from what can go wrong between a client and a service to what the client sees.
func problemOf(err error) *httpserver.Problem {
	var body *bodyError
	var specification *specificationError
	switch {
	case errors.As(err, &body):
		return httpserver.BodyProblem(body.error)
	case errors.As(err, &specification):
		p := httpserver.Unavailable(err)
		p.Detail = "the specification of " + specification.service + " cannot be read at the moment; try again shortly"
		return p
	case errors.Is(err, upstream.ErrNoAddress), errors.Is(err, errTooManyStreams):
		return httpserver.Unavailable(err)
	case errors.Is(err, errUpstreamTimeout):
		return httpserver.NewProblem(http.StatusGatewayTimeout, httpserver.CodeUpstreamTimeout,
			"the service did not answer in time; what it was asked for may still happen").Because(err)
	}
	return httpserver.NewProblem(http.StatusBadGateway, httpserver.CodeUpstreamUnavailable,
		"the service could not be reached or broke off its answer; what it was asked for may have happened").Because(err)
}
