package api_test

import (
	"testing"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

type bundle struct{ *paymentstest.Bundle }

// setup starts one instance of each role.
func setup(t *testing.T, roles ...service.Role) *bundle {
	t.Helper()
	return &bundle{paymentstest.Setup(t, roles...)}
}
