package service

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/currencies"
	"github.com/altyn-pay/altyn/platform/httpserver"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
)

const (
	// startTimeout bounds how long the start waits for the database. The service starts without it too.
	startTimeout = 3 * time.Second
	// verifyInterval is how often a database that did not answer is asked again.
	verifyInterval = time.Second
)

var errNotVerified = errors.New("the database has not been verified yet")

// verifyAtStart checks the database before anything is served. What may pass, verify waits for in the background.
func (p *Process) verifyAtStart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := p.verifyOnce(ctx)
	if ctx.Err() != nil || passes(err) {
		return nil
	}
	return err
}

// passes tells whether what is wrong with the database may pass: it is away, or has another schema than this program
// can serve, as in the middle of an upgrade.
func passes(err error) bool {
	return err == nil || pg.IsTransient(err) || errors.As(err, new(*pg.SchemaError))
}

// verify returns once the database is known to fit. Its error ends the process: the database has other currencies.
// Better that than to misread amounts. It logs a schema for which it waits when it is another one than before.
func (p *Process) verify(ctx context.Context) error {
	for waits := ""; ; stage.Wait(ctx, verifyInterval) {
		select {
		case <-p.verified:
			return nil
		case <-ctx.Done():
			return nil
		default:
		}
		err := p.verifyOnce(ctx)
		if ctx.Err() == nil && !passes(err) {
			return err
		}
		if misfit := (*pg.SchemaError)(nil); errors.As(err, &misfit) && misfit.Error() != waits {
			waits = misfit.Error()
			p.Log.WarnContext(ctx, "waiting for a schema that this program can serve", "error", misfit)
		} else if err == nil && waits != "" {
			p.Log.InfoContext(ctx, "the schema fits now")
		}
	}
}

func (p *Process) verifyOnce(ctx context.Context) error {
	err := pg.CheckSchema(ctx, p.DB, p.program.Migrations...)
	if err == nil && len(p.program.Amounts) > 0 {
		err = currencies.Agree(ctx, p.DB, p.Currencies, p.program.Amounts...)
	}
	if wrong := (currencies.Disagreement)(nil); errors.As(err, &wrong) {
		return &config.Wrong{Name: "CURRENCIES_FILE", Value: p.Config.Currencies,
			Must: "must have the currencies that the database has: " + err.Error(), Err: err}
	}
	if err == nil {
		err = p.Clock.Look(ctx)
	}
	if err == nil {
		close(p.verified)
	}
	return err
}

// onlyVerified refuses all requests except those for documents until the database is known to fit.
func (p *Process) onlyVerified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/docs") {
			select {
			case <-p.verified:
			default:
				httpserver.Error(w, r, httpserver.Unavailable(errNotVerified))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
