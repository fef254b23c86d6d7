package bearer_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/platform/identity/bearer"
	"github.com/altyn-pay/altyn/testkit/issuer"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// BenchmarkHeader is what a request pays for a token that was verified before.
func BenchmarkHeader(b *testing.B) {
	i := issuer.New(b)
	v := bearer.New(i.Config(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- v.Run(ctx) }()
	defer func() { cancel(); <-done }()
	wait.NoError(b, func() error { return v.Ready(ctx) })
	values := []string{"Bearer " + i.Token("shop", "alice", issuer.Scopes)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Header(ctx, values, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
