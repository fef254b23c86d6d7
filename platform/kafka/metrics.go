package kafka

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// register adds a collector, or returns the one of that name that another producer or consumer of the process added.
func register[C prometheus.Collector](metrics prometheus.Registerer, collector C) (C, error) {
	err := metrics.Register(collector)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing, nil
		}
	}
	return collector, err
}
