package api_test

import (
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/altyn-pay/altyn/payments/docs"
	"github.com/altyn-pay/altyn/payments/internal/api"
	"github.com/altyn-pay/altyn/platform/operators"
	"github.com/altyn-pay/altyn/testkit/swaggertest"
)

func TestSpecificationAndRoutesAgree(t *testing.T) {
	router := chi.NewRouter()
	api.New(nil, nil, nil).Routes(router)
	operators.NewAPI(nil).Mount(router)
	swaggertest.CheckRoutes(t, swaggertest.Load(docs.Document), router)
}
