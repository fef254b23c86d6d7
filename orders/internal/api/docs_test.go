package api_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/altyn-pay/altyn/orders/docs"
	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/platform/operators"
	"github.com/altyn-pay/altyn/testkit/swaggertest"
)

// specification is what every answer in these tests is held against.
var specification = sync.OnceValue(func() *swaggertest.Spec { return swaggertest.Load(docs.Document) })

func TestEveryRouteIsDocumentedAndTheOtherWayRound(t *testing.T) {
	swaggertest.CheckRoutes(t, specification(), over(t, nil).server.Config.Handler.(chi.Routes))
}

func TestDocumentHasTheScopes(t *testing.T) {
	swaggertest.CheckScopes(t, "../../../docs/api.md", "### orders", (*api.API)(nil).Routes()...)
}

func TestDocumentSaysWhatTheRoutesNeed(t *testing.T) {
	swaggertest.CheckSecurity(t, "../../docs/swagger.json",
		slices.Concat((*api.API)(nil).Routes(), (*operators.API)(nil).Routes())...)
}
