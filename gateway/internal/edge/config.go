package edge

import (
	"errors"
	"time"

	"github.com/altyn-pay/altyn/gateway/internal/upstream"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// Config are the gateway's settings.
type Config struct {
	Addr            string        `env:"GATEWAY_ADDR" default:":8000" help:"address of the API and its documentation"`
	AdminAddr       string        `env:"GATEWAY_ADMIN_ADDR" default:":8009" help:"address of /metrics"`
	Orders          []string      `env:"ORDERS_URL" default:"http://127.0.0.1:8080" help:"base URLs of the instances of orders, separated by commas"`
	Payments        []string      `env:"PAYMENTS_URL" default:"http://127.0.0.1:8081" help:"base URLs of the instances of payments, separated by commas"`
	UpstreamTimeout time.Duration `env:"GATEWAY_UPSTREAM_TIMEOUT" default:"35s" help:"time a service has to answer, streams of events apart; longer than ?wait= may ask for"`
	MaxBody         config.Bytes  `env:"GATEWAY_MAX_BODY" default:"1MiB" help:"largest body of a request"`
	HTTP            httpserver.Config
	Telemetry       telemetry.Config
}

// Validate checks the URLs and bounds.
func (c Config) Validate() error {
	errs := []error{config.CheckAddr("GATEWAY_ADDR", c.Addr), config.CheckAddr("GATEWAY_ADMIN_ADDR", c.AdminAddr)}
	if err := upstream.Check(c.Orders); err != nil {
		errs = append(errs, config.Invalid("ORDERS_URL", "%v", err))
	}
	if err := upstream.Check(c.Payments); err != nil {
		errs = append(errs, config.Invalid("PAYMENTS_URL", "%v", err))
	}
	if c.UpstreamTimeout <= 0 || c.UpstreamTimeout > time.Hour {
		errs = append(errs, config.Invalid("GATEWAY_UPSTREAM_TIMEOUT", "must be more than 0s and at most 1h"))
	}
	return errors.Join(errs...)
}
