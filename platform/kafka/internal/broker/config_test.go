package broker

import "testing"

// A broker is guarded on this machine, and elsewhere by TLS with SASL or a certificate.
func TestGuarded(t *testing.T) {
	for _, test := range []struct {
		broker, mechanism, tls, certificate string
		guarded                             bool
	}{
		{"127.0.0.1:9092", "", "", "", true}, {"localhost:9092", "", "false", "", true},
		{"kafka:9092", "", "", "", false}, {"kafka:9092", "scram-sha-512", "false", "", false},
		{"kafka:9092", "", "true", "", false}, {"kafka:9092", "", "false", "tls.crt", false},
		{"kafka:9092", "scram-sha-512", "", "", true}, {"kafka:9092", "scram-sha-512", "true", "", true},
		{"kafka:9092", "", "", "tls.crt", true},
	} {
		c := Config{Brokers: []string{test.broker}, SASLMechanism: test.mechanism, TLS: test.tls, TLSCert: test.certificate}
		if got := c.Guarded(); got != test.guarded {
			t.Errorf("%+v: %t", test, got)
		}
	}
}
