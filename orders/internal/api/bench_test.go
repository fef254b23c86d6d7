package api_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// BenchmarkPlace is 64 clients who place orders over HTTP as fast as they are answered, client and server in one process.
func BenchmarkPlace(b *testing.B) {
	bundle := setup(b)
	b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
	b.RunParallel(func(pb *testing.PB) {
		sent := strings.Replace(body, account, uuid.NewString(), 1)
		for pb.Next() {
			if a := bundle.call(b, "POST", "/api/v1/orders", sent); a.status != 201 {
				b.Errorf("%d %s", a.status, a.body)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "orders/s")
}
