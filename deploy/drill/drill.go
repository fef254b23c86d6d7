package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/stage"
)

// Load is what clients do while a database is lost.
type Load struct {
	Rate     float64 // clients that come per second
	Duration time.Duration
	Seed     uint64
}

// part is how long the load goes on before the moment that is to be restored.
func (l Load) part() time.Duration {
	const least, most = 0.2, 0.8
	random := rand.New(rand.NewPCG(l.Seed, 0)).Float64()
	return time.Duration((least + (most-least)*random) * float64(l.Duration))
}

// Report says what a drill did and found.
type Report struct {
	Database string        `json:"database"`
	Moment   time.Time     `json:"moment"`   // that was restored; zero where a standby took over
	Acts     int           `json:"acts"`     // of clients
	Gone     []Act         `json:"gone"`     // of those that were answered
	Undone   int           `json:"undone"`   // orders that are no longer what was said
	Repeated int           `json:"repeated"` // of what was gone or not answered
	Steps    []Step        `json:"steps"`
	Answers  time.Duration `json:"answers_ns"` // the steps until the service answered
	Agrees   time.Duration `json:"agrees_ns"`  // the steps until both agreed and were audited
}

// String says it in a few lines.
func (r Report) String() string {
	gone := map[string]int{}
	for _, a := range r.Gone {
		gone[a.What]++
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s: it answered after %s, both agreed after %s; of %d requests that changed something %d are gone",
		r.Database, r.Answers.Round(time.Millisecond), r.Agrees.Round(time.Millisecond), r.Acts, len(r.Gone))
	for _, what := range slices.Sorted(maps.Keys(gone)) {
		fmt.Fprintf(&text, ", %d × %s", gone[what], what)
	}
	fmt.Fprintf(&text, "; %d orders are no longer what was said; %d requests were repeated. The books are right.",
		r.Undone, r.Repeated)
	return text.String()
}

func total(steps []Step) (took time.Duration) {
	for _, step := range steps {
		took += step.Took
	}
	return took
}

// Store places orders until so many more are stored and settled.
func (s *Site) Store(ctx context.Context, orders int) error {
	const batchOf, clients = 100, 8
	client := load.New(s.URL("gateway"))
	defer client.Close()
	opened, err := client.Accounts(ctx, accounts, clients, "1000000000.00", currency)
	if err != nil {
		return err
	}
	return s.step(fmt.Sprintf("store %d orders", orders), func() error {
		if err := load.Each(ctx, (orders+batchOf-1)/batchOf, clients, func(i int) error {
			batch := struct {
				Orders [batchOf]load.NewOrder `json:"orders"`
			}{}
			for j := range batch.Orders {
				batch.Orders[j] = load.NewOrder{AccountID: opened[(i*batchOf+j)%accounts], Amount: "1.00", Currency: currency}
			}
			return client.Retry(ctx, load.OrdersPath+"/batch", uuid.NewString(), batch, nil)
		}); err != nil {
			return err
		}
		return s.settled(ctx)
	})
}

// settled waits until no order is pending.
func (s *Site) settled(ctx context.Context) error {
	return s.read(stack.Orders, func(db *sqlx.DB) error {
		for {
			var pending bool
			err := db.GetContext(ctx, &pending, `SELECT EXISTS (SELECT FROM orders WHERE status = 'pending')`)
			if err != nil || !pending {
				return err
			}
			if !stage.Wait(ctx, time.Second) {
				return ctx.Err()
			}
		}
	})
}

// come has clients come until leave is called, which waits for them and may be called again.
func (s *Site) come(ctx context.Context, l Load) (t *traffic, leave func() error, err error) {
	if t, err = s.newTraffic(ctx, l.Seed); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var clients errgroup.Group
	clients.Go(func() error { return t.run(ctx, l.Rate) })
	return t, func() error {
		cancel()
		return clients.Wait()
	}, nil
}

// LoseAndRestore has a service's database get the state of a moment at random within the load, and checks what became
// of everything.
func (s *Site) LoseAndRestore(ctx context.Context, service string, l Load) (Report, error) {
	report := Report{Database: service}
	if err := s.Backup(ctx, service); err != nil {
		return report, err
	}
	t, leave, err := s.come(ctx, l)
	if err != nil {
		return report, err
	}
	defer t.close()
	defer func() { _ = leave() }()
	part := l.part()
	s.progress(fmt.Sprintf("%.0f clients come per second for %s", l.Rate, l.Duration))
	stage.Wait(ctx, part)
	report.Moment = time.Now().UTC().Truncate(time.Microsecond)
	stage.Wait(ctx, l.Duration-part)

	first := len(s.Steps)
	if err := s.step("1 stop "+service, func() error { return s.Stop(service) }); err != nil {
		return report, err
	}
	if err := leave(); err != nil {
		return report, err
	}
	said, err := s.orders(ctx, t)
	if err != nil {
		return report, err
	}
	report.Acts = len(t.acts)
	beside, over := context.WithCancel(ctx)
	defer over()
	other := stack.Orders
	if service == stack.Orders {
		other = stack.Payments
	}
	var visitors errgroup.Group
	visitors.Go(func() error { return t.visits(beside, other) })
	if err := s.Restore(ctx, service, report.Moment); err != nil {
		return report, err
	}
	report.Answers = total(s.Steps[first:])
	over()
	if err := visitors.Wait(); err != nil {
		return report, err
	}
	if err := s.Agree(ctx); err != nil {
		return report, err
	}
	report.Steps = s.Steps[first:]
	report.Agrees = total(report.Steps)
	undone, err := s.Command(ctx, stack.Orders, "undone", "--since", report.Moment.Format(time.RFC3339Nano)).Output()
	if err != nil {
		return report, err
	}
	gone, err := s.Gone(ctx, service, report.Moment)
	if err != nil {
		return report, err
	}
	s.progress("  " + gone[len(gone)-1] + ", " + lastLine(undone))
	found, err := s.look(ctx, t)
	if err != nil {
		return report, err
	}
	report.Gone = found.gone(t.acts)
	report.Undone, err = found.named(service, t.acts, said, strings.Join(gone, "\n"), string(undone))
	if err := errors.Join(err, found.at(report.Moment, service, t.acts), found.sums(t)); err != nil {
		return report, err
	}
	return report, s.repeat(ctx, t, &report)
}

// repeat has clients repeat, twice, what is gone and what they had no answer to, under the keys that it had: it is done
// once.
func (s *Site) repeat(ctx context.Context, t *traffic, report *Report) error {
	before, err := s.look(ctx, t)
	if err != nil {
		return err
	}
	var done []Act
	for i := range t.acts {
		a := &t.acts[i]
		if before.has(*a) {
			continue
		}
		for range 2 {
			a.Answered = time.Time{}
			_, refused, err := t.send(ctx, a)
			if err != nil {
				return err
			}
			if refused { // as things are now
				break
			}
		}
		if !a.Answered.IsZero() {
			done = append(done, *a)
		}
	}
	report.Repeated = len(done)
	s.progress(fmt.Sprintf("%d of what was gone or not answered was repeated", len(done)))
	if err := s.Agree(ctx); err != nil {
		return err
	}
	after, err := s.look(ctx, t)
	if err != nil {
		return err
	}
	if gone := after.gone(done); len(gone) > 0 {
		return fmt.Errorf("%d were repeated and are gone, such as %+v", len(gone), gone[0])
	}
	return after.sums(t)
}

// FailOverUnderLoad kills the PostgreSQL of a service at a moment at random within the load, and has a standby take
// over: nothing that was answered is gone.
func (s *Site) FailOverUnderLoad(ctx context.Context, service string, l Load) (Report, error) {
	report := Report{Database: service}
	if err := s.Standby(ctx, service); err != nil {
		return report, err
	}
	t, leave, err := s.come(ctx, l)
	if err != nil {
		return report, err
	}
	defer t.close()
	defer func() { _ = leave() }()
	part := l.part()
	stage.Wait(ctx, part)
	first := len(s.Steps)
	if err := s.FailOver(ctx, service); err != nil {
		return report, err
	}
	if err := s.step("have "+service+" answer", func() error { return t.visit(ctx, service, 0) }); err != nil {
		return report, err
	}
	report.Answers = total(s.Steps[first:])
	stage.Wait(ctx, l.Duration-part)
	if err := errors.Join(leave(), s.Agree(ctx)); err != nil {
		return report, err
	}
	report.Steps, report.Acts = s.Steps[first:], len(t.acts)
	report.Agrees = total(report.Steps)
	found, err := s.look(ctx, t)
	if err != nil {
		return report, err
	}
	report.Gone = found.gone(t.acts)
	if len(report.Gone) > 0 {
		return report, fmt.Errorf("%d that were answered are gone, such as %+v", len(report.Gone), report.Gone[0])
	}
	return report, found.sums(t)
}
