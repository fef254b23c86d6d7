package api_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/api"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// A hundred clients leave while their reads are in the database: no connection is closed for it.
func TestConnectionsSurviveClientsWhoLeave(t *testing.T) {
	b := setup(t, "api")
	router := chi.NewRouter()
	httpserver.Mount(router, api.New(nil, nil, nil).Routes()...)
	id := uuid.NewString()
	var requests []*http.Request
	add := func(method, path, body string) {
		request, err := http.NewRequest(method, b.URL+path, bytes.NewBufferString(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		requests = append(requests, request)
	}
	if err := chi.Walk(router, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if path := strings.NewReplacer("{id}", id, "{order_id}", id).Replace(route); method == http.MethodGet &&
			path != "/api/v1/currencies" {
			add(method, path, "")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// What these read before they have anything accepted.
	add("POST", "/api/v1/holds/"+id+"/capture", "")
	add("POST", "/api/v1/payments/"+id+"/refund", "")
	add("POST", "/api/v1/operations/batch", `{"operations": [{"operation": "release", "hold_id": "`+id+`"}]}`)
	add("POST", "/"+"altyn.payments.v1.PaymentService"+"/GetBalance", `{"accountId": "`+id+`"}`)
	add("POST", "/"+"altyn.payments.v1.PaymentService"+"/GetPayment", `{"orderId": "`+id+`"}`)

	before := postgrestest.Blocked(t, b.DB, func(blocked func()) {
		ctx, leave := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		for i := range 100 {
			request := requests[i%len(requests)].Clone(ctx)
			request.Body, _ = requests[i%len(requests)].GetBody()
			clients.Go(func() {
				if response, err := http.DefaultClient.Do(request); err == nil {
					_, _ = io.Copy(io.Discard, response.Body)
					response.Body.Close()
				}
			})
		}
		blocked()
		leave()
		clients.Wait()
	})
	for _, request := range requests {
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if response.Body.Close(); response.StatusCode >= 500 {
			t.Errorf("%s %s: %s", request.Method, request.URL.Path, response.Status)
		}
	}
	before.Survived(t)
}
