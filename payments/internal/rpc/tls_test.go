package rpc_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	paymentsv1 "github.com/altyn-pay/altyn/payments/api/altyn/payments/v1"
	"github.com/altyn-pay/altyn/payments/api/altyn/payments/v1/paymentsv1connect"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/platform/tlsfiles"
	"github.com/altyn-pay/altyn/testkit/tlstest"
)

// gRPC comes by TLS from those who have a certificate. Without one nobody is answered, and HTTP/2 without TLS is gone.
func TestTLS(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	server, mine := authority.Issue(t, []string{"127.0.0.1"}), authority.Issue(t, nil)
	b := setup(t)
	b.Settings.HTTP.TLS.Cert, b.Settings.HTTP.TLS.Key = server.Cert, server.Key
	b.Settings.HTTP.TLS.ClientCA = authority.File
	plain, _ := b.Start(service.API)
	url := strings.Replace(plain, "http://", "https://", 1)

	payment := func(url string, files tlsfiles.Files) error {
		source, err := tlsfiles.Open(files, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{TLSClientConfig: source.Client(""), Protocols: new(http.Protocols)}
		transport.Protocols.SetHTTP2(true)
		transport.Protocols.SetUnencryptedHTTP2(true)
		defer transport.CloseIdleConnections()
		client := paymentsv1connect.NewPaymentServiceClient(&http.Client{Transport: transport}, url, connect.WithGRPC())
		_, err = client.GetPayment(t.Context(), &paymentsv1.GetPaymentRequest{OrderId: uuid.NewString()})
		return err
	}
	known := tlsfiles.Files{Cert: mine.Cert, Key: mine.Key, CA: authority.File}
	if err := payment(url, known); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("with a certificate: %v", err)
	}
	for name, err := range map[string]error{
		"without a certificate": payment(url, tlsfiles.Files{CA: authority.File}), "without TLS": payment(plain, known),
	} {
		if err == nil || connect.CodeOf(err) == connect.CodeNotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
}
