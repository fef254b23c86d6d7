package api_test

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// BenchmarkPlace is 64 clients who place orders as fast as they are answered: all of the process but its connections.
// Those of a tenant have their lists' indexes written too.
func BenchmarkPlace(b *testing.B) {
	b.Run("everyone", func(b *testing.B) { benchmarkPlace(b, setup(b).server.Config.Handler, "") })
	b.Run("tenant", func(b *testing.B) { benchmarkPlace(b, setupTenants(b).server.Config.Handler, clerk.String()) })
}

func benchmarkPlace(b *testing.B, handler http.Handler, authorization string) {
	b.ReportAllocs()
	b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
	b.RunParallel(func(pb *testing.PB) {
		sent := strings.Replace(body, account, uuid.NewString(), 1)
		for pb.Next() {
			request, err := http.NewRequestWithContext(b.Context(), "POST", "http://localhost/api/v1/orders",
				strings.NewReader(sent))
			if err != nil {
				b.Error(err)
				return
			}
			request.Header.Set("Content-Type", "application/json")
			if authorization != "" {
				request.Header.Set("Authorization", authorization)
			}
			answer := httptest.NewRecorder()
			if handler.ServeHTTP(answer, request); answer.Code != 201 {
				b.Errorf("%d %s", answer.Code, answer.Body)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
}
