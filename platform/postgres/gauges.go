package postgres

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
)

// gaugesTimeout bounds the query of one scrape.
const gaugesTimeout = time.Second

// Gauges is a collector that runs a query at each scrape. The query returns one row with a number for each gauge, in
// their order. When the database does not answer within a second, the gauges are missing from the scrape.
func Gauges(db *sqlx.DB, query string, gauges ...prometheus.GaugeOpts) prometheus.Collector {
	c := &gaugeCollector{db: db, query: query}
	for _, g := range gauges {
		c.descs = append(c.descs, prometheus.NewDesc(g.Name, g.Help, nil, nil))
	}
	return c
}

type gaugeCollector struct {
	db    *sqlx.DB
	query string
	descs []*prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *gaugeCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (c *gaugeCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), gaugesTimeout)
	defer cancel()
	values, into := make([]float64, len(c.descs)), make([]any, len(c.descs))
	for i := range values {
		into[i] = &values[i]
	}
	if err := c.db.QueryRowxContext(ctx, c.query).Scan(into...); err != nil {
		return
	}
	for i, d := range c.descs {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, values[i])
	}
}
