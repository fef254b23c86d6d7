package system

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/tlsfiles"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/tlstest"
)

// An order is paid while the gateway and the services show each other certificates; nobody else reaches a service.
func TestOrderByTLS(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	server, gateway := authority.Issue(t, []string{"127.0.0.1"}), authority.Issue(t, nil)
	services := stack.Instances(2, 1, 1)
	for i, service := range services {
		env := []string{"TLS_CERT_FILE=" + server.Cert, "TLS_KEY_FILE=" + server.Key}
		if service.Program == stack.Gateway {
			env = append(env, "GATEWAY_UPSTREAM_CA_FILE="+authority.File, "GATEWAY_UPSTREAM_CERT_FILE="+gateway.Cert,
				"GATEWAY_UPSTREAM_KEY_FILE="+gateway.Key)
		} else {
			env = append(env, "TLS_CLIENT_CA_FILE="+authority.File)
		}
		services[i].Env = env
	}
	b := setup(t, localkafka.Embedded, services)
	trust, err := tlsfiles.Open(tlsfiles.Files{CA: authority.File}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust.Client(""), ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	post := func(url string, body any) (answer struct{ ID, Status string }, err error) {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil {
			return answer, err
		}
		defer response.Body.Close()
		if response.StatusCode > 299 || response.ProtoMajor != 2 {
			return answer, fmt.Errorf("%s %s", response.Proto, response.Status)
		}
		return answer, json.NewDecoder(response.Body).Decode(&answer)
	}
	type fields map[string]string
	account, err := post(b.URL("gateway")+"/api/v1/accounts", fields{"owner": "alice"})
	if err != nil {
		t.Fatal(err)
	}
	money := fields{"amount": "10.00", "currency": "RUB", "account_id": account.ID}
	deposit := fields{"amount": "20.00", "currency": "RUB"}
	if _, err := post(b.URL("gateway")+"/api/v1/accounts/"+account.ID+"/deposits", deposit); err != nil {
		t.Fatal(err)
	}
	for range 2 { // by each instance
		order, err := post(b.URL("gateway")+"/api/v1/orders?wait=30s", money)
		if err != nil || order.Status != "paid" {
			t.Errorf("the order is %+v, %v", order, err)
		}
	}
	response, err := client.Get(b.AdminURL("gateway") + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil ||
		strings.Count(string(text), "\naltyn_certificate_expiry_timestamp_seconds{use=") != 2 {
		t.Errorf("the gateway watches not just its two certificates: %v\n%s", err, text)
	}
	client = &http.Client{Transport: &http.Transport{TLSClientConfig: trust.Client("")}} // HTTP/2's hides the reason
	defer client.CloseIdleConnections()
	if err := tlstest.Reason(func() error {
		_, err := post(b.URL("orders")+"/api/v1/orders", money)
		return err
	}); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %v", err)
	}
}
