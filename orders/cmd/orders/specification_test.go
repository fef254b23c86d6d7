package main

import (
	"testing"

	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/kafkatest"
	"github.com/altyn-pay/altyn/platform/postgrestest"
	"github.com/altyn-pay/altyn/platform/swaggertest"
)

// No parameter of any call can be forged into a fault, and there are none but the documented ones.
func TestParameters(t *testing.T) {
	t.Parallel()
	p := start(t, configuration(t, postgrestest.Database(t, name, postgres.Migrations()...), kafkatest.Broker(t)))
	id := p.place(t, "", "1.00").ID.String()
	t.Run("walk", func(t *testing.T) {
		swaggertest.CheckParameters(t, swaggertest.Load(t, document()), p.url, func(*swaggertest.Operation, string) string { return id })
	})
}
