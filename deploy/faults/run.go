package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/kafka"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
)

// Injection is a fault that lasts for a while. The next one begins after a pause, whether this one has ended or not.
type Injection struct {
	Fault
	Lasts, Pause time.Duration
}

// Plan says what to do to a site.
type Plan struct {
	Injections []Injection
	Together   int           // how many of them there may be at the same time
	Time       time.Duration // after which no round begins; 0 is no bound
	Groups     int           // of three accounts, with three clients that work and one that looks
	Seed       uint64        // of what the clients do
	Progress   func(string)
}

// A round is some injections, and then a rest: everything must come to its end by itself, and the books must be right.
const injectionsOfRound = 25

const (
	// A fault lasts at most so long, and one of twenty as long as it takes until a broker gives up a silent consumer.
	longestFault = 3 * time.Second
	longFault    = 12 * time.Second
	rareness     = 20
	// gap is the longest time between the beginnings of two faults.
	gap = 1500 * time.Millisecond
	// quietTimeout bounds the time from the last fault until all clients have been answered.
	quietTimeout = 2 * time.Minute
	// handsAfter is how long clients wait before somebody looks after the brokers.
	handsAfter = time.Minute
	// maxFindings ends a run in which much is wrong.
	maxFindings = 10
)

// Draw draws n injections: each kind that the site can have equally often, or each of some. The same seed draws the
// same ones.
func (s *Site) Draw(seed uint64, n int, kinds ...Kind) []Injection {
	byKind := make(map[Kind][]Fault)
	for _, fault := range s.Faults() {
		byKind[fault.Kind] = append(byKind[fault.Kind], fault)
	}
	if len(kinds) == 0 {
		kinds = Kinds()
	}
	kinds = slices.DeleteFunc(slices.Clone(kinds), func(k Kind) bool { return len(byKind[k]) == 0 })
	if len(kinds) == 0 {
		return nil
	}
	random := rand.New(rand.NewPCG(seed, 0))
	injections := make([]Injection, n)
	for i := range injections {
		of := byKind[kinds[random.IntN(len(kinds))]]
		some := func(most time.Duration) time.Duration { return time.Duration(random.Int64N(int64(most))) }
		injections[i] = Injection{of[random.IntN(len(of))], some(longestFault), some(gap)}
		if random.IntN(rareness) == 0 {
			injections[i].Lasts = longFault
		}
	}
	return injections
}

// Report is what a run has done and found.
type Report struct {
	Took       time.Duration
	Injected   map[Kind]int
	Faults     map[string]int // by what was harmed and how
	Answered   map[string]int // what clients have done, and what they were told of servers' faults
	Rounds     int
	Quiet      []time.Duration // of each round: from the last fault until all clients have been answered
	Orders     int64
	Operations int64
	Findings   []string
	Hands      []string // what had to be done by hand
	Undecided  int      // histories whose check took too long
}

// experiment is a run of a plan.
type experiment struct {
	*Site
	plan     Plan
	producer *kafka.Producer
	random   *rand.Rand
	placed   int64

	mu     sync.Mutex // of the report's Answered
	report Report
}

// Run injects faults while clients work, and checks everything after each round. Its error says that it could not go
// on; what is wrong with the system is in the report.
func (s *Site) Run(ctx context.Context, plan Plan) (Report, error) {
	r := &experiment{Site: s, plan: plan, random: rand.New(rand.NewPCG(plan.Seed, 1)), report: Report{
		Injected: make(map[Kind]int), Faults: make(map[string]int), Answered: make(map[string]int)}}
	begin := time.Now()
	cfg, err := s.KafkaConfig()
	if err != nil {
		return r.report, err
	}
	if r.producer, err = kafka.NewProducer(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err != nil {
		return r.report, err
	}
	defer r.producer.Close()
	done := 0
	for injections := range slices.Chunk(plan.Injections, injectionsOfRound) {
		if len(r.report.Findings) >= maxFindings || plan.Time > 0 && time.Since(begin) > plan.Time {
			break
		}
		if err := r.round(ctx, injections); err != nil {
			return r.report, err
		}
		done += len(injections)
		r.report.Rounds++
		r.report.Took = time.Since(begin)
		plan.Progress(fmt.Sprintf("%d faults in %s, %d orders, %d findings", done, r.report.Took.Round(time.Second), r.placed,
			len(r.report.Findings)))
	}
	return r.report, nil
}

func (r *experiment) count(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Answered[what]++
}

// find notes what is wrong.
func (r *experiment) find(err error) {
	switch {
	case err == nil:
		return
	case errors.Is(err, errUndecided):
		r.report.Undecided++
		return
	}
	r.plan.Progress("FOUND: " + err.Error())
	r.report.Findings = append(r.report.Findings, fmt.Sprintf("round %d: %s", r.report.Rounds+1, err))
}

// round has clients work on accounts of their own while faults are injected, waits for all of them, and checks what
// they were told.
func (r *experiment) round(ctx context.Context, injections []Injection) error {
	groups := make([]*group, r.plan.Groups)
	for i := range groups {
		var err error
		if groups[i], err = newGroup(ctx, r.Site, r.producer, r.count); err != nil {
			return err
		}
	}
	working, end := context.WithCancelCause(ctx)
	defer end(nil)
	done := make(chan struct{})
	var clients errgroup.Group
	for _, g := range groups {
		for number := range clientsOfEach + 1 {
			c := &client{g, number, rand.New(rand.NewPCG(r.random.Uint64(), 0))}
			clients.Go(func() error {
				if number == clientsOfEach {
					return c.watch(working, done)
				}
				return c.work(working, done)
			})
		}
	}
	err := r.inject(ctx, injections)
	quiet := time.Now()
	close(done)
	found, wrong := r.rest(clients.Wait, end)
	if err := errors.Join(err, wrong, ctx.Err()); err != nil {
		return errors.Join(err, found)
	}
	r.report.Quiet = append(r.report.Quiet, time.Since(quiet))
	r.find(found)
	r.find(r.WaitReady(ctx))
	return r.check(ctx, groups)
}

// rest waits until every client was answered, and calls end when that takes too long.
func (r *experiment) rest(wait func() error, end context.CancelCauseFunc) (found, err error) {
	logged := make(map[string]int64) // before the rest
	for _, name := range stack.Brokers(r.kafka) {
		if about, err := os.Stat(r.LogFile(name)); err == nil {
			logged[name] = about.Size()
		}
	}
	answered := make(chan error, 1)
	go func() { answered <- wait() }()
	left := quietTimeout - handsAfter
	select {
	case found := <-answered:
		return found, nil
	case <-time.After(handsAfter):
		for name, size := range logged {
			if broken, err := r.broken(name, size); err != nil || !broken {
				continue
			}
			left = quietTimeout
			r.report.Hands = append(r.report.Hands, fmt.Sprintf(
				"round %d: %s was started again, since it took nothing on a partition whose index was ahead of its log",
				r.report.Rounds+1, name))
			r.plan.Progress(r.report.Hands[len(r.report.Hands)-1])
			err = errors.Join(err, r.again(name))
		}
	}
	overdue := time.AfterFunc(left, func() { end(errors.New("a client was not answered in time after the last fault")) })
	defer overdue.Stop()
	return <-answered, err
}

// broken tells whether a broker has logged, behind its first bytes, that it takes nothing on a partition, because it
// believes that the index has later records than the log. It can get there when its disk was full or it was killed, and
// only a restart, which makes the index anew, leads out.
func (r *experiment) broken(name string, logged int64) (bool, error) {
	log, err := os.ReadFile(r.LogFile(name))
	if err != nil {
		return false, err
	}
	return bytes.Contains(log[min(logged, int64(len(log))):], []byte("InvalidOffsetException: Attempt to append")), nil
}

// inject injects faults, some at the same time, and returns once all have ended.
func (r *experiment) inject(ctx context.Context, injections []Injection) error {
	var running errgroup.Group
	running.SetLimit(r.plan.Together)
	var harmed sync.Map // a lock for each that can be harmed
	for _, fault := range injections {
		r.report.Injected[fault.Kind]++
		r.report.Faults[fault.String()]++
		running.Go(func() error {
			turn, _ := harmed.LoadOrStore(fault.Of, new(sync.Mutex))
			turn.(*sync.Mutex).Lock()
			defer turn.(*sync.Mutex).Unlock()
			end, err := fault.Begin()
			if err == nil {
				stage.Wait(ctx, fault.Lasts)
				err = end()
			}
			if err != nil {
				return fmt.Errorf("%s: %w", fault.Fault, err)
			}
			return nil
		})
		if !stage.Wait(ctx, fault.Pause) {
			break
		}
	}
	return running.Wait()
}

// check holds what clients were told against the models, and all that was acknowledged against the databases, and
// audits the books.
func (r *experiment) check(ctx context.Context, groups []*group) error {
	report, err := r.Audit(ctx)
	r.find(err)
	r.find(r.Reconcile(ctx))
	var placed []*order
	for i, g := range groups {
		placed = append(placed, g.orders...)
		if err := g.moves.check(accounts); err != nil {
			r.find(fmt.Errorf("accounts of group %d: %w", i, err))
		}
	}
	for _, o := range placed {
		if err := o.history.check(orders); err != nil {
			r.find(fmt.Errorf("order %s: %w", o.id, err))
		}
	}
	r.placed += int64(len(placed))
	if r.report.Orders, r.report.Operations = report.Orders, report.Operations; err == nil && report.Orders != r.placed {
		r.find(fmt.Errorf("%d orders are stored, %d were acknowledged", report.Orders, r.placed))
	}
	return r.stored(ctx, groups, placed)
}

// stored looks for all that was acknowledged.
func (r *experiment) stored(ctx context.Context, groups []*group, placed []*order) error {
	last := make(map[string]string, len(placed))
	var ids, operations, accounts pg.UUIDs
	for _, o := range placed {
		ids = append(ids, o.id)
		last[o.id.String()] = o.last.Status
	}
	for _, g := range groups {
		operations, accounts = append(operations, g.operations...), append(accounts, g.ids...)
	}
	var stored []struct{ ID, Status string }
	if err := r.Orders.SelectContext(ctx, &stored, `SELECT id::text, status FROM orders WHERE id = ANY($1::uuid[])`,
		ids); err != nil {
		return err
	}
	for _, o := range stored {
		if last[o.ID] != o.Status {
			r.find(fmt.Errorf("order %s is %s, and was %s when it was seen last", o.ID, o.Status, last[o.ID]))
		}
		delete(last, o.ID)
	}
	for _, id := range slices.Sorted(maps.Keys(last)) {
		r.find(fmt.Errorf("order %s was acknowledged and is lost", id))
	}
	return r.settled(ctx, r.Payments, operations, accounts)
}

// settled expects all operations that were acknowledged, and no others of these kinds on these accounts.
func (r *experiment) settled(ctx context.Context, db *sqlx.DB, operations, accounts pg.UUIDs) error {
	var known, all int
	if err := errors.Join(
		db.GetContext(ctx, &known, `SELECT count(*) FROM operations WHERE id = ANY($1::uuid[])`, operations),
		db.GetContext(ctx, &all, `
			SELECT count(*) FROM operations WHERE account_id = ANY($1::uuid[])
				AND operation IN ('deposit', 'withdraw', 'transfer', 'hold', 'capture', 'release') AND order_id IS NULL`, accounts),
	); err != nil {
		return err
	}
	if known != len(operations) || all != len(operations) {
		r.find(fmt.Errorf("%d operations were acknowledged, of which %d are stored, and %d are stored in all",
			len(operations), known, all))
	}
	return nil
}
