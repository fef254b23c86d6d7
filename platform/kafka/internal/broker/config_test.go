package broker

import (
	"strings"
	"testing"
)

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

// The password of PLAIN does not follow a broker on this machine that names one elsewhere.
func TestPlainStaysOnThisMachine(t *testing.T) {
	c := Config{Brokers: []string{"127.0.0.1:9092"}, SASLMechanism: "plain", TLS: never}
	_, err := c.dial(t.Context(), nil, "tcp", "kafka.example:9092")
	if err == nil || !strings.Contains(err.Error(), "set KAFKA_TLS") {
		t.Error(err)
	}
}
