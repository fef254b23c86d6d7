package main

import (
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/issuer"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
	"github.com/altyn-pay/altyn/testkit/routetest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// Every route of the process is shut to those without its scope: of the API those of the table that
// TestEveryRouteWithEveryScope goes through, of the operators' plane all but the probes and the documents.
func TestEveryRouteNeedsItsScope(t *testing.T) {
	t.Parallel()
	from := issuer.New(t)
	cfg := configuration(t, postgrestest.Database(t, "orders", postgres.Migrations()...), kafkatest.Broker(t))
	cfg.Auth = from.Config()
	program := newProgram(cfg)
	var routers [2]chi.Routes
	build := program.Build
	program.Build = func(p *service.Process) error {
		err := build(p)
		routers[0], routers[1] = p.Routers()
		return err
	}
	p := startProgram(t, program)
	wait.Until(t, "the keys are there", func() bool {
		code, _ := p.call(t, "GET", "/readyz", "")
		return code == 200
	})
	routetest.Check(t, p.url, routers[0], from, (*api.API)(nil).Routes())
	routetest.Check(t, p.admin, routers[1], from, nil)
}
