package api_test

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// A hundred clients leave while their reads are in the database: no connection is closed for it.
func TestConnectionsSurviveClientsWhoLeave(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := uuid.NewString()
	paths := []string{
		"/api/v1/orders", "/api/v1/orders?status=paid", "/api/v1/orders/" + id, "/api/v1/orders/" + id + "?wait=1s",
		"/api/v1/orders/" + id + "/timeline", "/api/v1/orders/" + id + "/stream",
	}
	before := postgrestest.Blocked(t, b.db, func(blocked func()) {
		ctx, leave := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		for i := range 100 {
			request, err := http.NewRequestWithContext(ctx, "GET", b.server.URL+paths[i%len(paths)], nil)
			if err != nil {
				t.Fatal(err)
			}
			clients.Go(func() {
				if response, err := b.server.Client().Do(request); err == nil {
					_, _ = io.Copy(io.Discard, response.Body)
					response.Body.Close()
				}
			})
		}
		blocked()
		leave()
		clients.Wait()
	})
	for _, path := range paths {
		if a := b.call(t, "GET", path, ""); a.status >= 500 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	before.Survived(t)
}
