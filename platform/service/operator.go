package service

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
)

// Operator is who does something by a command, and why: settings of each command that changes something which is not
// its own.
type Operator struct {
	Token  string `env:"ALTYN_TOKEN" secret:"true" help:"token of an operator, with AUTH=jwt"`
	Reason string `flag:"reason" value:"TEXT" help:"why, for the record of what operators did"`
}

// Validate checks the reason.
func (o Operator) Validate() error {
	if err := contract.CheckText(o.Reason, contract.MaxReason); err != nil {
		return config.Invalid("--reason", "%v", err)
	}
	return nil
}

// Identify tells who the operator is, by a valid token with the scope operator where tokens are needed, and else
// identity.Everyone.
func (o Operator) Identify(ctx context.Context, auth bearer.Config, log *slog.Logger) (identity.Identity, error) {
	if auth.On() && o.Token == "" {
		return identity.Identity{}, config.Invalid("ALTYN_TOKEN", "must be the token of an operator with AUTH=jwt")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tokens := bearer.New(auth, log)
	go func() { _ = tokens.Run(ctx) }() // it always returns nil
	who, err := tokens.Header(ctx, []string{"Bearer " + o.Token}, time.Now())
	if err == nil {
		_, err = who.Reach(identity.Operator)
	}
	if err != nil {
		return identity.Identity{}, fmt.Errorf("ALTYN_TOKEN: %w", err)
	}
	return who, nil
}
