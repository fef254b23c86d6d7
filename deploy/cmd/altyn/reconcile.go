package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
	"github.com/altyn-pay/altyn/platform/operators"
	"github.com/altyn-pay/altyn/platform/reconcile"
	"github.com/altyn-pay/altyn/platform/stage"
)

// Reconcile is the settings of the command reconcile.
type Reconcile struct {
	Orders   string `env:"ALTYN_ORDERS_ADMIN" flag:"orders" value:"URL" default:"http://127.0.0.1:8180" help:"operators' plane of orders"`
	Payments string `env:"ALTYN_PAYMENTS_ADMIN" flag:"payments" value:"URL" default:"http://127.0.0.1:8181" help:"operators' plane of payments"`
	Token    bearer.Credential
	InFlight time.Duration `flag:"in-flight" value:"DURATION" default:"1m" help:"how long an order may differ: what has changed since then, by the clock of the service that has changed it, is under way"`
	Heal     bool          `flag:"heal" help:"have what differs announced again, where that can help, and look whether it has"`
	Reason   string        `flag:"reason" value:"TEXT" default:"altyn reconcile --heal" help:"why, for the record of what operators did"`
	Metrics  string        `flag:"metrics" value:"FILE" help:"write how many orders are wrong, for the textfile collector of Prometheus' node exporter"`
	JSON     bool          `flag:"json" help:"print one JSON object for each order that is wrong"`
	Every    time.Duration `flag:"every" value:"DURATION" help:"go on until SIGTERM, with this pause, also when it could not look (default: once)"`
}

// Validate checks the duration.
func (r Reconcile) Validate() error {
	if r.InFlight < time.Second {
		return config.Invalid("--in-flight", "must be at least 1s")
	}
	if r.Every != 0 && r.Every < time.Second {
		return config.Invalid("--every", "must be at least 1s")
	}
	return nil
}

func reconcileCommand(out io.Writer) config.Command {
	c := config.NewCommand("reconcile", "compare what orders and payments know of each order",
		func(ctx context.Context, s Reconcile) error { return repeatReconcile(ctx, out, s) })
	c.About = `It asks both services on their operators' planes, for digests first and for the orders where they differ.
What was changed a moment ago is under way; all else that differs is looked at again before it is called wrong. The exit
code is 0 if both agree, at the end, 1 if they do not, and 2 if it could not look.`
	c.Examples = []string{"", "--heal", "--in-flight 10m --json", "--every 24h --metrics altyn.prom"}
	return c
}

const (
	// lookAgain is the pause before what differs is looked at again, and looks how often that is done while it changes.
	lookAgain = 2 * time.Second
	looks     = 3
	// healTimeout bounds the wait for one more of the orders that were announced again.
	healTimeout = 10 * time.Second
	// maxDiffering bounds how many orders are looked at again.
	maxDiffering = 100_000
	// maxBuckets is how many buckets of a page are asked for one by one.
	maxBuckets = 8
	// maxAnswer bounds an answer, in bytes.
	maxAnswer = 64 << 20
)

// pair is an order as both services know it; one of them may not.
type pair struct {
	Orders   *reconcile.Order `json:"orders"`
	Payments *reconcile.Order `json:"payments"`
}

func (p pair) id() uuid.UUID { return cmp.Or(p.Orders, p.Payments).ID }

func (p pair) agrees() bool {
	return p.Orders == nil && p.Payments == nil || p.Orders != nil && p.Payments != nil && p.Orders.Same(*p.Payments)
}

// equal tells whether neither side has changed.
func (p pair) equal(other pair) bool {
	same := func(a, b *reconcile.Order) bool { return a == b || a != nil && b != nil && *a == *b }
	return same(p.Orders, other.Orders) && same(p.Payments, other.Payments)
}

// String says for people what differs.
func (p pair) String() string {
	switch {
	case p.Orders == nil:
		return fmt.Sprintf("%s: payments has a payment, %s since %s, of which orders has no order", p.id(), p.Payments.Status,
			p.Payments.UpdatedAt)
	case p.Payments == nil:
		return fmt.Sprintf("%s: orders has an order, %s since %s, of which payments has no payment", p.id(), p.Orders.Status,
			p.Orders.UpdatedAt)
	}
	var texts []string
	o, q := p.Orders, p.Payments
	for _, field := range []struct {
		name string
		a, b any
	}{
		{"status", o.Status, q.Status}, {"reason", o.Reason, q.Reason}, {"version of the payment", o.Version, q.Version},
		{"captured", o.Captured, q.Captured}, {"refunded", o.Refunded, q.Refunded}, {"amount", o.Amount, q.Amount},
		{"currency", o.Currency, q.Currency}, {"account", o.AccountID, q.AccountID}, {"tenant", o.Tenant, q.Tenant},
	} {
		if field.a != field.b {
			texts = append(texts, fmt.Sprintf("%s is %v in orders and %v in payments", field.name, field.a, field.b))
		}
	}
	return p.id().String() + ": " + strings.Join(texts, ", ")
}

// healer is who may tell of the order again so that the other one catches up; nil if nothing that is announced can
// help.
func (p pair) healer(orders, payments *side) *side {
	switch {
	case p.Payments != nil && p.Orders != nil && p.Payments.Version != p.Orders.Version: // fewer: it was restored
		return payments
	case p.Orders != nil && (p.Orders.Status == "cancelling" || p.Orders.Status == "pending" && p.Payments == nil):
		return orders
	}
	return nil
}

// comparison compares the two sides.
type comparison struct {
	orders, payments *side
	inFlight         time.Duration
	pause            time.Duration // before another look

	compared int64
	moving   int // orders under way
	wrong    []pair
}

// repeatReconcile reconciles once, or until ctx ends.
func repeatReconcile(ctx context.Context, out io.Writer, s Reconcile) error {
	for {
		err := runReconcile(ctx, out, s)
		if s.Every == 0 {
			return err
		}
		if wrong := config.Exit(0); err != nil && !errors.As(err, &wrong) && ctx.Err() == nil {
			fmt.Fprintf(out, "it could not look: %v\n", err)
		}
		if !stage.Wait(ctx, s.Every) {
			return nil
		}
	}
}

func runReconcile(ctx context.Context, out io.Writer, s Reconcile) error {
	token, err := s.Token.Read()
	if err != nil {
		return err
	}
	c := comparison{orders: newSide("orders", s.Orders, token), payments: newSide("payments", s.Payments, token),
		inFlight: s.InFlight, pause: lookAgain}
	if err := c.run(ctx); err != nil {
		return config.Unseen{Err: err}
	}
	var healed []pair
	if s.Heal && len(c.wrong) > 0 {
		if healed, err = c.heal(ctx, s.Reason); err != nil {
			return config.Unseen{Err: err}
		}
	}
	for what, list := range map[string][]pair{"wrong": c.wrong, "healed": healed} {
		for _, p := range list {
			if !s.JSON {
				fmt.Fprintf(out, "%s: %s\n", what, p)
			} else if err := json.NewEncoder(out).Encode(struct {
				ID   uuid.UUID `json:"id"`
				What string    `json:"what"`
				pair
			}{p.id(), what, p}); err != nil {
				return err
			}
		}
	}
	if !s.JSON {
		fmt.Fprintf(out, "%d orders were compared: %d are wrong, %d were healed, %d are under way\n",
			c.compared, len(c.wrong), len(healed), c.moving)
	}
	if s.Metrics != "" {
		if err := writeMetrics(s.Metrics, len(c.wrong), time.Now()); err != nil {
			return config.Unseen{Err: err}
		}
	}
	if len(c.wrong) > 0 {
		return config.Exit(1)
	}
	return nil
}

// writeMetrics replaces the file at once, so that nobody reads half of it.
func writeMetrics(file string, wrong int, at time.Time) error {
	metrics := prometheus.NewRegistry()
	for _, gauge := range []struct {
		name, help string
		value      float64
	}{
		{"altyn_reconcile_wrong_orders", "Orders of which orders and payments knew different things.", float64(wrong)},
		{"altyn_reconcile_timestamp_seconds", "When they were compared, in seconds since 1970.", float64(at.Unix())},
	} {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: gauge.name, Help: gauge.help})
		g.Set(gauge.value)
		metrics.MustRegister(g)
	}
	return prometheus.WriteToTextfile(file, metrics)
}

// run compares everything.
func (c *comparison) run(ctx context.Context) error {
	var differing []pair
	for after := uuid.Nil; after != uuid.Max; {
		a, b, err := c.digests(ctx, after)
		if err != nil {
			return err
		}
		if some, err := c.page(ctx, after, a, b); err != nil {
			return err
		} else if differing = append(differing, some...); len(differing) > maxDiffering {
			return fmt.Errorf("more than %d orders differ", maxDiffering)
		}
		if bytes.Compare(b.To[:], after[:]) <= 0 {
			return errors.New("the services do not go on")
		}
		after = b.To
	}
	// What differs for longer than it takes, and stays as it is, is wrong.
	for look := 0; len(differing) > 0; look++ {
		if look == looks {
			c.moving += len(differing)
			break
		}
		if !stage.Wait(ctx, c.pause) {
			return ctx.Err()
		}
		now, err := c.named(ctx, differing)
		if err != nil {
			return err
		}
		var changed []pair
		for i, p := range now {
			switch {
			case p.agrees():
				c.moving++
			case p.equal(differing[i]):
				c.wrong = append(c.wrong, p)
			default:
				changed = append(changed, p)
			}
		}
		differing = changed
	}
	return nil
}

// page returns the orders of a page that differ and are not under way.
func (c *comparison) page(ctx context.Context, after uuid.UUID, a, b reconcile.Page) (differing []pair, err error) {
	type key struct {
		bucket           int
		status, currency string
	}
	digests := make(map[key]reconcile.Digest)
	for _, d := range a.Items {
		digests[key{d.Bucket, d.Status, d.Currency}] = d
		c.compared += d.Count
	}
	var buckets []int
	for _, d := range b.Items {
		k := key{d.Bucket, d.Status, d.Currency}
		if digests[k] != d {
			buckets = append(buckets, d.Bucket)
		}
		delete(digests, k)
	}
	for k := range digests {
		buckets = append(buckets, k.bucket)
	}
	slices.Sort(buckets)
	if buckets = slices.Compact(buckets); len(buckets) > maxBuckets {
		buckets = []int{-1} // all at once
	}
	for _, bucket := range buckets {
		some, err := c.bucket(ctx, after, b.To, bucket)
		if err != nil {
			return nil, err
		}
		differing = append(differing, some...)
	}
	return differing, nil
}

// digests asks both sides for the digests of one range of IDs, in which neither has more orders than a page may have.
func (c *comparison) digests(ctx context.Context, after uuid.UUID) (a, b reconcile.Page, err error) {
	if err = together(
		func() (err error) { a, err = c.orders.digests(ctx, after, uuid.Max); return err },
		func() (err error) { b, err = c.payments.digests(ctx, after, uuid.Max); return err },
	); err != nil {
		return a, b, err
	}
	switch bytes.Compare(a.To[:], b.To[:]) {
	case -1:
		b, err = c.payments.digests(ctx, after, a.To)
	case 1:
		a, err = c.orders.digests(ctx, after, b.To)
	}
	return a, b, err
}

// both asks both sides for the same orders.
func (c *comparison) both(ctx context.Context, query url.Values) (a, b reconcile.Orders, err error) {
	err = together(
		func() (err error) { a, err = c.orders.list(ctx, query); return err },
		func() (err error) { b, err = c.payments.list(ctx, query); return err })
	return a, b, err
}

// together asks both sides at the same time, and returns the errors of both.
func together(orders, payments func() error) error {
	other := make(chan error, 1)
	go func() { other <- payments() }()
	return errors.Join(orders(), <-other)
}

func (c *comparison) bucket(ctx context.Context, after, to uuid.UUID, bucket int) (differing []pair, err error) {
	query := url.Values{"to": {to.String()}}
	if after != uuid.Nil {
		query.Set("after", after.String())
	}
	if bucket >= 0 {
		query.Set("bucket", fmt.Sprint(bucket))
	}
	a, b, err := c.both(ctx, query)
	if err != nil {
		return nil, err
	}
	old := func(o *reconcile.Order, list reconcile.Orders) bool {
		return o == nil || time.Time(list.Now).Sub(time.Time(o.UpdatedAt)) >= c.inFlight
	}
	for _, p := range pairs(a, b) {
		switch {
		case p.agrees():
		case old(p.Orders, a) && old(p.Payments, b):
			differing = append(differing, p)
		default:
			c.moving++
		}
	}
	return differing, nil
}

// pairs puts side by side what the services know, in the order of IDs.
func pairs(a, b reconcile.Orders) []pair {
	all := make(map[uuid.UUID]pair, len(a.Items))
	for i := range a.Items {
		all[a.Items[i].ID] = pair{Orders: &a.Items[i]}
	}
	for i := range b.Items {
		id := b.Items[i].ID
		all[id] = pair{Orders: all[id].Orders, Payments: &b.Items[i]}
	}
	list := make([]pair, 0, len(all))
	for _, p := range all {
		list = append(list, p)
	}
	slices.SortFunc(list, func(p, q pair) int {
		a, b := p.id(), q.id()
		return bytes.Compare(a[:], b[:])
	})
	return list
}

// named looks at orders again, and returns them in the same order.
func (c *comparison) named(ctx context.Context, list []pair) ([]pair, error) {
	now := make([]pair, len(list))
	place := make(map[uuid.UUID]int, len(list))
	for i, p := range list {
		place[p.id()] = i
	}
	for some := range slices.Chunk(list, reconcile.MaxIDs) {
		query := url.Values{"ids": {strings.Join(ids(some), ",")}}
		a, b, err := c.both(ctx, query)
		if err != nil {
			return nil, err
		}
		for _, p := range pairs(a, b) {
			now[place[p.id()]] = p
		}
	}
	return now, nil
}

func ids(list []pair) (texts []string) {
	for _, p := range list {
		texts = append(texts, p.id().String())
	}
	return texts
}

// heal has orders announced again and waits for both to agree. What has been healed is no longer wrong.
func (c *comparison) heal(ctx context.Context, reason string) (healed []pair, err error) {
	by := make(map[*side][]pair)
	for _, p := range c.wrong {
		by[p.healer(c.orders, c.payments)] = append(by[p.healer(c.orders, c.payments)], p)
	}
	waiting := slices.Concat(by[c.orders], by[c.payments])
	c.wrong = by[nil]
	for _, s := range []*side{c.orders, c.payments} {
		for some := range slices.Chunk(by[s], reconcile.MaxIDs) {
			if err := s.announce(ctx, operators.Announcement{IDs: ids(some), Reason: reason}); err != nil {
				return nil, err
			}
		}
	}
	const interval = 200 * time.Millisecond
	for begin := time.Now(); len(waiting) > 0 && time.Since(begin) < healTimeout && stage.Wait(ctx, interval); {
		now, err := c.named(ctx, waiting)
		if err != nil {
			return nil, err
		}
		var still []pair
		for i, p := range waiting {
			if now[i].agrees() {
				healed = append(healed, p)
			} else {
				still = append(still, p)
			}
		}
		if len(still) < len(waiting) {
			begin = time.Now()
		}
		waiting = still
	}
	c.wrong = append(c.wrong, waiting...)
	return healed, ctx.Err()
}

// side is the operators' plane of a service.
type side struct {
	name, base, token string
	client            *http.Client
}

func newSide(name, base, token string) *side {
	const timeout = 30 * time.Second
	return &side{name, strings.TrimSuffix(base, "/"), token, &http.Client{Timeout: timeout}}
}

func (s *side) digests(ctx context.Context, after, to uuid.UUID) (page reconcile.Page, err error) {
	query := url.Values{"to": {to.String()}}
	if after != uuid.Nil {
		query.Set("after", after.String())
	}
	return page, s.call(ctx, "GET", operators.DigestsPath+"?"+query.Encode(), nil, &page)
}

func (s *side) list(ctx context.Context, query url.Values) (list reconcile.Orders, err error) {
	return list, s.call(ctx, "GET", operators.DigestsPath+"/orders?"+query.Encode(), nil, &list)
}

func (s *side) announce(ctx context.Context, a operators.Announcement) error {
	return s.call(ctx, "POST", operators.DigestsPath+"/announce", a, &operators.Announced{})
}

func (s *side) call(ctx context.Context, method, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, s.base+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if s.token != "" {
		request.Header.Set("Authorization", "Bearer "+s.token)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	defer response.Body.Close()
	text, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	if err == nil {
		err = json.Unmarshal(text, answer)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}
