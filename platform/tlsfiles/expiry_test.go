package tlsfiles

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/altyn-pay/altyn/testkit/tlstest"
)

func TestExpiry(t *testing.T) {
	authority, metrics := tlstest.NewAuthority(t), prometheus.NewRegistry()
	server, client := authority.Issue(t, []string{local}), authority.Issue(t, nil, tlstest.Expired)
	if err := WatchExpiry(metrics, map[string]Files{
		"server": {server.Cert, server.Key, "/nowhere"}, "kafka": {Cert: client.Cert, Key: client.Key}, "postgres": {},
	}); err != nil {
		t.Fatal(err)
	}
	const name = "altyn_certificate_expiry_timestamp_seconds"
	want := fmt.Sprintf("# HELP %[1]s When the certificate that is in use ends, in seconds since 1970.\n"+
		"# TYPE %[1]s gauge\n%[1]s{use=\"kafka\"} %[2]d\n%[1]s{use=\"server\"} %[3]d\n", name,
		parse(t, client.Cert).NotAfter.Unix(), parse(t, server.Cert).NotAfter.Unix())
	if err := testutil.GatherAndCompare(metrics, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if err := WatchExpiry(metrics, map[string]Files{"upstream": {Cert: server.Cert, Key: client.Key}}); err == nil {
		t.Error("a certificate without its key is watched")
	}
}
