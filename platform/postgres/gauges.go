package postgres

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// gaugesTimeout bounds the query of one scrape.
const gaugesTimeout = time.Second

// Gauges is a collector that runs a query at each scrape. The query returns one row with a number for each gauge, in
// their order. When the database does not answer within a second, the gauges are missing from the scrape, which does
// not wait for them.
func Gauges(db *sqlx.DB, query string, gauges ...prometheus.GaugeOpts) prometheus.Collector {
	c := &gaugeCollector{db: db, query: query, running: make(chan struct{}, 1)}
	for _, g := range gauges {
		c.descs = append(c.descs, prometheus.NewDesc(g.Name, g.Help, nil, nil))
	}
	return c
}

// Collectors tell what a service sees of its database: what its pool does (go_sql_…), the database's size and clock,
// and for how long sessions of the service's role wait for a lock or have had a transaction open.
func Collectors(db *sqlx.DB, database string) []prometheus.Collector {
	return []prometheus.Collector{
		collectors.NewDBStatsCollector(db.DB, database),
		Gauges(db, `
			SELECT pg_database_size(current_database()), extract(epoch FROM clock_timestamp()),
				coalesce(extract(epoch FROM clock_timestamp() - min(query_start) FILTER (WHERE wait_event_type = 'Lock')), 0),
				coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)), 0)
			FROM pg_stat_activity WHERE usename = current_user AND datname = current_database()`,
			prometheus.GaugeOpts{Name: "altyn_postgres_database_bytes", Help: "Size of the database."},
			prometheus.GaugeOpts{
				Name: "altyn_postgres_clock_seconds", Help: "The server's clock, in seconds since 1970."},
			prometheus.GaugeOpts{
				Name: "altyn_postgres_lock_wait_seconds", Help: "How long a statement of the service waits for a lock by now."},
			prometheus.GaugeOpts{
				Name: "altyn_postgres_transaction_seconds", Help: "Age of the service's oldest open transaction."}),
	}
}

type gaugeCollector struct {
	db      *sqlx.DB
	query   string
	descs   []*prometheus.Desc
	running chan struct{} // one slot, so that a query that outlasts its scrape never runs twice at once
}

// Describe implements prometheus.Collector.
func (c *gaugeCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		descs <- d
	}
}

// Collect implements prometheus.Collector. A query can outlast its context: to cancel it, the driver connects once
// more, to a server that may be frozen.
func (c *gaugeCollector) Collect(metrics chan<- prometheus.Metric) {
	select {
	case c.running <- struct{}{}:
	default:
		return
	}
	answer := make(chan []float64, 1)
	go func() {
		defer close(answer)
		values, err := c.values()
		<-c.running // before the answer: a scrape that follows at once finds the slot free
		if err == nil {
			answer <- values
		}
	}()
	timer := time.NewTimer(gaugesTimeout)
	defer timer.Stop()
	select {
	case values := <-answer: // none if the query has failed
		for i := range values {
			metrics <- prometheus.MustNewConstMetric(c.descs[i], prometheus.GaugeValue, values[i])
		}
	case <-timer.C:
	}
}

// values runs the query.
func (c *gaugeCollector) values() ([]float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), gaugesTimeout)
	defer cancel()
	values, into := make([]float64, len(c.descs)), make([]any, len(c.descs))
	for i := range values {
		into[i] = &values[i]
	}
	err := c.db.QueryRowxContext(ctx, c.query).Scan(into...)
	return values, err
}
