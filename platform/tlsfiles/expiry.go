package tlsfiles

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// WatchExpiry adds altyn_certificate_expiry_timestamp_seconds to the metrics, for each certificate that there is, by
// what it is used for. As in handshakes what counts is what the files held last that could be used.
func WatchExpiry(metrics prometheus.Registerer, certificates map[string]Files) error {
	for use, files := range certificates {
		if files.Cert == "" {
			continue
		}
		source, err := Open(Files{Cert: files.Cert, Key: files.Key}, slog.New(slog.DiscardHandler)) // whoever uses it logs
		if err != nil {
			return err
		}
		if err := metrics.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "altyn_certificate_expiry_timestamp_seconds",
			Help:        "When the certificate that is in use ends, in seconds since 1970.",
			ConstLabels: prometheus.Labels{"use": use},
		}, func() float64 { return float64(source.current().pair[0].Leaf.NotAfter.Unix()) })); err != nil {
			return err
		}
	}
	return nil
}
