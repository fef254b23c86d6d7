package main

import (
	"testing"

	"github.com/altyn-pay/altyn/orders/docs"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
	"github.com/altyn-pay/altyn/testkit/swaggertest"
)

// No parameter of any call can be forged into a fault, and there are none but the documented ones.
func TestParameters(t *testing.T) {
	t.Parallel()
	p := start(t, configuration(t, postgrestest.Database(t, name, postgres.Migrations()...), kafkatest.Broker(t)))
	id := p.place(t, "", "1.00").ID.String()
	t.Run("walk", func(t *testing.T) {
		swaggertest.CheckParameters(t, swaggertest.Load(docs.Document), p.baseOf,
			func(*swaggertest.Operation, string) string { return id })
	})
}

// The examples of the specification work when they are sent as they stand.
func TestExamples(t *testing.T) {
	t.Parallel()
	broker := kafkatest.Broker(t)
	startPayments(t, broker)
	p := start(t, configuration(t, postgrestest.Database(t, name, postgres.Migrations()...), broker))
	id := p.place(t, "?wait=30s", "1.00").ID.String()
	spec := swaggertest.Load(docs.Document)
	swaggertest.CheckExamples(t, spec, p.baseOf, func(o *swaggertest.Operation, _ string) string {
		if o.Tags[0] == "operators" {
			return "" // nothing is parked
		}
		return id
	})
}
