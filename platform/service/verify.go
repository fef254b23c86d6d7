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

// verifyAtStart checks the database before anything is served. If it is away, verify goes on in the background.
func (p *Process) verifyAtStart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := p.verifyOnce(ctx)
	if ctx.Err() != nil || pg.IsTransient(err) {
		return nil
	}
	return err
}

// verify returns once the database is known to fit. Its error ends the process: the database lacks a migration, or has
// other currencies. Better that than to fail at the first request, or to misread amounts.
func (p *Process) verify(ctx context.Context) error {
	for {
		select {
		case <-p.verified:
			return nil
		case <-ctx.Done():
			return nil
		default:
		}
		if err := p.verifyOnce(ctx); err != nil && !pg.IsTransient(err) && ctx.Err() == nil {
			return err
		}
		stage.Wait(ctx, verifyInterval)
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
