package audit

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/config"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations creates the worker's tables.
func Migrations() pg.Migrations { return pg.Embedded("audit", files) }

// Config is the settings of the worker.
type Config struct {
	On    bool          `env:"AUDIT" default:"true" help:"whether to audit the books in the background"`
	Every time.Duration `env:"AUDIT_EVERY" default:"24h" help:"how long after the begin of a whole audit the next one begins; in between it follows what changes"`
	Load  int           `env:"AUDIT_LOAD" default:"5" help:"the share of the time for which the audit works, in one session of the database, in percent"`
	Idle  int           `env:"AUDIT_IDLE_LOAD" default:"50" help:"the same while nothing else is at work on the database's server; the more there is, the nearer it is to AUDIT_LOAD"`
}

// Validate returns everything that is wrong with the settings.
func (c Config) Validate() error {
	var errs []error
	if c.Every < time.Second {
		errs = append(errs, config.Invalid("AUDIT_EVERY", "must be at least 1s"))
	}
	if c.Load < 1 || c.Load > 100 {
		errs = append(errs, config.Invalid("AUDIT_LOAD", "must be 1 to 100"))
	}
	if c.Idle < 1 || c.Idle > 100 {
		errs = append(errs, config.Invalid("AUDIT_IDLE_LOAD", "must be 1 to 100"))
	}
	return errors.Join(errs...)
}

const (
	// tick is how often a process asks whether it is time for the next step, and idle the pause where nothing has changed.
	tick = 250 * time.Millisecond
	idle = time.Second
	// sampled is how often it looks how busy the server is: sessions tell of their time once a second.
	sampled = 5 * time.Second
	// again is how often what was found is looked at again, and at the end of each pass.
	again = 30 * time.Second
	// maxKept bounds the findings that are kept.
	maxKept = 10_000

	// longestStep is how long a step is its process's alone; should the process die, another one does it then.
	longestStep = 5 * time.Minute
)

// Worker audits the books in the background, for as long as it runs: it goes through all of them now and then, and
// follows what changes in between. What it finds is an error in the log and stays in the table audit_findings, until it
// is found right. Any number of processes may run one: they take turns, so that the load is that of one.
type Worker struct {
	auditor
	load, idle int // percent
	busy       busy
	every      time.Duration
	log        *slog.Logger
	next       time.Time // look at the findings
	rules      map[string]ruleOf

	rows                 prometheus.Counter
	findings             *prometheus.GaugeVec
	passEnded, currentAt prometheus.Gauge
}

// busy is how busy the server is.
type busy struct {
	at     time.Time
	active time.Duration // of all sessions, until then
	own    time.Duration // of the audit, since then
	others float64       // sessions that were at work before, on average
}

// ruleOf is a rule and its table.
type ruleOf struct {
	Table
	Rule
}

// NewWorker makes a worker.
func NewWorker(db *sqlx.DB, books Books, cfg Config, log *slog.Logger, metrics prometheus.Registerer) *Worker {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	w := &Worker{
		auditor: auditor{Books: books, db: db}, load: cfg.Load, idle: cfg.Idle, busy: busy{others: 1}, every: cfg.Every,
		log: log, rules: make(map[string]ruleOf),
		rows: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "altyn_audit_rows_total", Help: "Rows that the audit has looked at."}),
		findings: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "altyn_audit_findings", Help: "What the audit has found wrong, by rule."}, []string{"rule"}),
		passEnded: gauge("altyn_audit_pass_timestamp_seconds", "When the last audit of everything has ended."),
		currentAt: gauge("altyn_audit_changes_timestamp_seconds",
			"When the audit had looked at all changes that were on record."),
	}
	for _, t := range books.Tables {
		for _, rule := range t.Rules {
			w.rules[rule.Name] = ruleOf{t, rule}
			w.findings.WithLabelValues(rule.Name)
		}
	}
	metrics.MustRegister(w.rows, w.findings, w.passEnded, w.currentAt)
	return w
}

// Run works until ctx ends, then returns nil. It survives the loss of the database.
func (w *Worker) Run(ctx context.Context) error {
	return stage.Loop{Name: "audit", Log: w.log, Every: tick, Full: 1, Once: w.runOnce}.Run(ctx)
}

// state is the row of the table audit.
type state struct {
	Place
	Began   sql.NullTime `db:"began_at"`
	Ended   sql.NullTime `db:"ended_at"`
	Current sql.NullTime `db:"current_at"`
	Next    string       `db:"next_at"` // the next step, as PostgreSQL writes it
	Due     bool         `db:"due"`
	Now     time.Time    `db:"now"`
}

// news is what a step has found.
type news struct {
	rows         int64
	wrong, right []Finding // that were not known, and that are right by now
}

// runOnce does the next step if it is due and no other process is at it. It returns 1 if the next one is due at once.
func (w *Worker) runOnce(ctx context.Context) (more int, err error) {
	var n news
	var s state
	if err := w.db.GetContext(ctx, &s, `
		SELECT table_name, page, beside, after, began_at, ended_at, current_at, next_at::text, clock_timestamp() AS now,
			next_at <= clock_timestamp() AS due FROM audit WHERE one = $1`, true); err != nil {
		return 0, fmt.Errorf("how far the audit has come: %w", err)
	}
	s.tell(w.passEnded, s.Ended)
	s.tell(w.currentAt, s.Current)
	if s.Due {
		if s.Next, s.Due, err = w.take(ctx, s.Next); err != nil {
			return 0, err
		}
	}
	if s.Due {
		if more, err = w.advance(ctx, s, &n); err != nil {
			return 0, err
		}
	}
	if len(n.wrong) > 0 || !time.Now().Before(w.next) {
		if err := w.lookAgain(ctx, &n); err != nil {
			return 0, err
		}
	}
	w.rows.Add(float64(n.rows))
	for _, f := range n.wrong {
		w.log.Error("the books are wrong", "what", f.What, "table", f.Table, "id", f.ID, "detail", f.Detail, "rule", f.Rule)
	}
	for _, f := range n.right {
		w.log.Info("what the audit had found is right now", "rule", f.Rule, "id", f.ID, "detail", f.Detail)
	}
	return more, nil
}

// take takes the step that has been due since then, and returns until when it is this process's alone. No transaction
// is open while the step is done: its looks need a connection, and a process may have no third one.
func (w *Worker) take(ctx context.Context, due string) (until string, mine bool, err error) {
	err = w.db.GetContext(ctx, &until, `
		UPDATE audit SET next_at = clock_timestamp() + $1::bigint * interval '1 microsecond'
		WHERE next_at = $2::timestamptz RETURNING next_at::text`, longestStep.Microseconds(), due)
	if errors.Is(err, sql.ErrNoRows) {
		return due, false, nil
	}
	if err != nil {
		return due, false, fmt.Errorf("take a step of the audit: %w", err)
	}
	return until, true, nil
}

func (state) tell(gauge prometheus.Gauge, at sql.NullTime) {
	if at.Valid {
		gauge.Set(float64(at.Time.UnixMicro()) / 1e6)
	}
}

// advance does a step and stores how far it has come.
func (w *Worker) advance(ctx context.Context, s state, n *news) (more int, err error) {
	began, now := time.Now(), sql.NullTime{Time: s.Now, Valid: true}
	if !s.Began.Valid { // the first of all passes looks at what was written before
		if s.After, err = w.Head(ctx, w.db); err != nil {
			return 0, err
		}
	}
	if s.Table == "" && (!s.Began.Valid || s.Now.Sub(s.Began.Time).Abs() >= w.every) {
		s.Began, s.Place = now, begin(w.steps()[0], s.After)
	}
	next, r := s.Place, Result{}
	if s.Table != "" {
		if next, err = w.pass(ctx, next, &r); err != nil {
			return 0, err
		}
		if next.Table == "" {
			s.Ended, w.next = now, time.Time{}
		}
	}
	if next.After, err = w.follow(ctx, s.After, &r); err != nil {
		return 0, err
	}
	load, err := w.share(ctx, time.Since(began))
	if err != nil {
		return 0, err
	}
	pause := rest(began, load)
	if next.After == s.After {
		s.Current = now
		if next.Table == "" {
			pause = max(pause, min(idle, w.every))
		}
	}
	n.rows = r.Rows
	if pause < time.Millisecond {
		more = 1
	}
	return more, pg.InTx(ctx, w.db, func(tx *sqlx.Tx) error {
		n.wrong = nil
		// If another process has taken the step meanwhile, because this one was too long at it, it goes on from there.
		if _, err := tx.ExecContext(ctx, `
			UPDATE audit SET table_name = $1, page = $2, beside = coalesce($3::bigint[], '{}'), after = $4, began_at = $5,
				ended_at = $6, current_at = $7, next_at = clock_timestamp() + $8::bigint * interval '1 microsecond'
			WHERE next_at = $9::timestamptz`, next.Table, next.Page, next.Beside, next.After, s.Began, s.Ended, s.Current,
			pause.Microseconds(), s.Next); err != nil {
			return fmt.Errorf("store how far the audit has come: %w", err)
		}
		return w.keep(ctx, tx, r.Findings, n)
	})
}

// share is for what share of the time to work after a step that has taken so long, in percent: the less the other
// sessions leave free of one that always works, the less.
func (w *Worker) share(ctx context.Context, took time.Duration) (int, error) {
	b := &w.busy
	b.own += took
	if passed := time.Since(b.at); passed >= sampled {
		var ms float64
		if err := w.db.GetContext(ctx, &ms, `SELECT coalesce(sum(active_time), 0) FROM pg_stat_database
			WHERE true = $1`, true); err != nil {
			return 0, fmt.Errorf("how busy the server is: %w", err)
		}
		active := time.Duration(ms * float64(time.Millisecond))
		if !b.at.IsZero() {
			b.others = min(max((active-b.active-b.own).Seconds()/passed.Seconds(), 0), 1)
		}
		b.at, b.active, b.own = time.Now(), active, 0
	}
	return w.load + max(0, int(float64(w.idle-w.load)*(1-b.others))), nil
}

// keep stores what is wrong.
func (w *Worker) keep(ctx context.Context, tx *sqlx.Tx, found []Finding, n *news) error {
	for _, f := range found {
		result, err := tx.ExecContext(ctx, `
			INSERT INTO audit_findings (rule, id, detail) SELECT $1, $2, $3
			WHERE (SELECT count(*) FROM audit_findings) < $4 ON CONFLICT DO NOTHING`, f.Rule, f.ID, f.Detail, maxKept)
		if err != nil {
			return fmt.Errorf("keep a finding: %w", err)
		}
		if stored, err := result.RowsAffected(); err == nil && stored > 0 {
			n.wrong = append(n.wrong, f)
		}
	}
	return nil
}

// lookAgain forgets what is right by now, and counts the rest.
func (w *Worker) lookAgain(ctx context.Context, n *news) error {
	var kept []Finding
	if err := w.db.SelectContext(ctx, &kept, `SELECT rule, id, detail FROM audit_findings WHERE true = $1`,
		true); err != nil {
		return fmt.Errorf("read the findings: %w", err)
	}
	named := make(map[string]pg.UUIDs) // by rule
	for _, f := range kept {
		named[f.Rule] = append(named[f.Rule], f.ID)
	}
	wrong, unsure := make(map[Finding]bool), make(map[string]bool)
	for name, ids := range named {
		rule, known := w.rules[name]
		for some := range slices.Chunk(ids, maxIDs) {
			if !known { // of another version
				unsure[name] = true
				break
			}
			_, found, err := rule.look(ctx, w.db, rule.named(some), rule.Rule)
			if err != nil {
				return err
			}
			for _, f := range found {
				wrong[Finding{Rule: f.Rule, ID: f.ID, Detail: f.Detail}] = true
			}
			unsure[name] = unsure[name] || len(found) == maxFound
		}
	}
	count := make(map[string]int)
	for _, f := range kept {
		if wrong[f] || unsure[f.Rule] {
			count[f.Rule]++
			continue
		}
		if _, err := w.db.ExecContext(ctx, `DELETE FROM audit_findings WHERE rule = $1 AND id = $2 AND detail = $3`,
			f.Rule, f.ID, f.Detail); err != nil {
			return fmt.Errorf("forget a finding: %w", err)
		}
		n.right = append(n.right, f)
	}
	for name := range w.rules {
		w.findings.WithLabelValues(name).Set(float64(count[name]))
	}
	w.next = time.Now().Add(again)
	return nil
}
