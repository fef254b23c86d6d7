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
func BenchmarkPlace(b *testing.B) {
	handler := setup(b).server.Config.Handler
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
			answer := httptest.NewRecorder()
			if handler.ServeHTTP(answer, request); answer.Code != 201 {
				b.Errorf("%d %s", answer.Code, answer.Body)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
}
