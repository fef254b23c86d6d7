package api_test

import (
	"slices"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/payments/docs"
	"github.com/altyn-pay/altyn/payments/internal/api"
	"github.com/altyn-pay/altyn/payments/internal/rpc"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/operators"
	"github.com/altyn-pay/altyn/testkit/swaggertest"
)

func TestSpecificationAndRoutesAgree(t *testing.T) {
	router := chi.NewRouter()
	httpserver.Mount(router, api.New(nil, nil, nil).Routes()...)
	httpserver.Mount(router, operators.NewAPI(nil, nil).Routes()...)
	swaggertest.CheckRoutes(t, swaggertest.Load(docs.Document), router)
}

func TestDocumentHasTheScopes(t *testing.T) {
	const page = "../../../docs/api.md"
	swaggertest.CheckScopes(t, page, "### payments", (*api.API)(nil).Routes()...)
	swaggertest.CheckScopes(t, page, "### gRPC", rpc.New(nil, nil).Routes()...)
	swaggertest.CheckScopes(t, page, "### operators", slices.Concat((*operators.API)(nil).Routes(),
		httpserver.PlaneRoutes(prometheus.NewRegistry(), nil), rpc.New(nil, nil).Reflection())...)
}

func TestDocumentSaysWhatTheRoutesNeed(t *testing.T) {
	swaggertest.CheckSecurity(t, "../../docs/swagger.json",
		slices.Concat((*api.API)(nil).Routes(), (*operators.API)(nil).Routes())...)
}
