package system

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/localpostgres"
)

const (
	openStreams = 5000
	maxRSS      = 100<<20 + openStreams*60<<10 // of each process that they go through
	// maxDelay is the time from a change, its commit included, to its event, in the median of so many tries.
	maxDelay = 50 * time.Millisecond
	tries    = 50

	streamPatience = 2 * time.Minute
)

// Thousands of clients follow their orders through the gateway. It costs little memory, each of them is
// told at once what becomes of its order, whichever instance of orders commits it, and when an instance
// ends they go on with the other.
func TestThousandsOfStreams(t *testing.T) {
	needFiles(t, 2*openStreams+1000) // the gateway has two for each stream
	services := stack.Instances(2, 1, 0)
	for i := range services {
		if services[i].Name == "orders-2" {
			services[i].Env = []string{"ROLE=api"} // all that happens there is committed elsewhere
		}
	}
	b := setup(t, localkafka.Embedded, services)
	accounts := b.accounts(50, "1000.00")
	if err := b.Stop("payments"); err != nil { // so that orders stay pending
		t.Fatal(err)
	}
	orders := b.placeMany(openStreams, accounts)

	limited, stop := context.WithTimeout(t.Context(), streamPatience)
	defer stop()
	ctx, fail := context.WithCancelCause(limited)
	defer fail(nil)
	clients := newListeners(ctx)
	var began, ended atomic.Int64
	var group errgroup.Group
	start := time.Now()
	for _, id := range orders {
		group.Go(func() error {
			first := true
			last, err := clients.follow(b.URL("gateway"), id, func(order load.Order) {
				if first {
					began.Add(1)
				}
				first = false
			})
			if err != nil || last.ID != id || last.Status != "paid" {
				err = fmt.Errorf("the last event of %s: %+v, %w", id, last, err)
				fail(err)
				return err
			}
			ended.Add(1)
			return nil
		})
	}
	b.await(ctx, "all streams are open", func() bool { return began.Load() == openStreams })
	t.Logf("%d streams were open after %v", openStreams, time.Since(start))
	b.checkMemory(maxRSS, "gateway", "orders", "orders-2")

	for _, name := range []string{"orders", "orders-2", "gateway"} {
		b.checkDelay(clients, name, accounts)
	}

	// Where an instance ends, its clients come back on the other.
	start = time.Now()
	if err := b.Stop("orders-2"); err != nil {
		t.Fatal(err)
	}
	b.await(ctx, "all streams are on one instance", func() bool {
		return b.metric("orders", "altyn_orders_streams") == openStreams
	})
	t.Logf("all of them were on one instance %v after the end of the other began", time.Since(start))
	b.checkMemory(maxRSS, "gateway", "orders")
	if n := ended.Load(); n > 0 {
		t.Fatalf("%d streams have ended before their orders", n)
	}

	// A database that crashes meanwhile ends no stream, and nothing is missed that comes after.
	if err := b.StopPostgres(localpostgres.Immediate); err != nil {
		t.Fatal(err)
	}
	if err := b.Restart(stack.PostgresName); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	if err := b.Restart("payments"); err != nil {
		t.Fatal(err)
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d orders were settled and told of %v after payments was started", openStreams, time.Since(start))
	b.checkMemory(maxRSS, "gateway", "orders")
	b.audit(map[string]int64{"paid": openStreams + 3*tries})
}

// needFiles makes sure that this process, and with it each that it starts, may have so many files open.
func needFiles(t *testing.T, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < n { // Go's programs raise the soft limit to the hard one when they start
		t.Fatalf("%d open files are needed, and only %d are allowed: raise the hard limit (ulimit -Hn)", n, limit.Cur)
	}
}

// placeMany places orders of 1.00 on the accounts in turn.
func (b *bundle) placeMany(n int, accounts []uuid.UUID) (orders []uuid.UUID) {
	b.Helper()
	const batch = 500
	for len(orders) < n {
		request := make([]load.NewOrder, batch)
		for i := range request {
			request[i] = load.NewOrder{AccountID: accounts[i%len(accounts)], Amount: "1.00", Currency: "RUB"}
		}
		var answer struct {
			Items []struct{ Order load.Order }
		}
		if err := b.client.Call("POST", "/api/v1/orders/batch", "", map[string]any{"orders": request}, &answer); err != nil {
			b.Fatal(err)
		}
		for _, item := range answer.Items {
			orders = append(orders, item.Order.ID)
		}
	}
	return orders
}

func (b *bundle) await(ctx context.Context, what string, condition func() bool) {
	b.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			b.Fatalf("it has not come to be that %s: %v", what, context.Cause(ctx))
		}
	}
}

// metric reads a metric without labels from an instance.
func (b *bundle) metric(instance, name string) float64 {
	b.Helper()
	response, err := http.Get(b.AdminURL(instance) + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			fields := strings.Fields(rest) // labels of the process, and the value
			if value, err := strconv.ParseFloat(fields[len(fields)-1], 64); err == nil {
				return value
			}
		}
	}
	return 0
}

// checkMemory expects the processes to be small, and to have been.
func (b *bundle) checkMemory(limit int64, names ...string) {
	b.Helper()
	for _, name := range names {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(b.Part(name).PID) + "/status")
		if errors.Is(err, os.ErrNotExist) {
			b.Logf("NOT CHECKED: the memory of %s, for this system has no /proc", name)
			continue
		}
		if err != nil {
			b.Fatal(err)
		}
		now, peak := kilobytes(string(text), "VmRSS:")<<10, kilobytes(string(text), "VmHWM:")<<10
		b.Logf("%s: %d MB, at most %d MB", name, now>>20, peak>>20)
		if now == 0 || max(now, peak) > limit {
			b.Errorf("%s has %d MB, and had %d MB; it may have %d MB", name, now>>20, peak>>20, limit>>20)
		}
	}
}

// kilobytes reads a line such as "VmRSS:   12345 kB".
func kilobytes(status, field string) (n int64) {
	_, rest, _ := strings.Cut(status, field)
	_, _ = fmt.Sscan(rest, &n) // 0 where it is not there
	return n
}

// checkDelay measures how long it takes from a change to its event on streams of this instance. The test stands in for
// payments, and tells of one payment at a time.
func (b *bundle) checkDelay(clients *listeners, instance string, accounts []uuid.UUID) {
	b.Helper()
	cfg, err := b.KafkaConfig()
	if err != nil {
		b.Fatal(err)
	}
	producer, err := kafka.NewProducer(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	defer producer.Close()
	var delays []time.Duration
	for i := range tries {
		order := b.place(accounts[i%len(accounts)], "1.00", "")
		stream, err := clients.open(b.URL(instance), order.ID)
		if err != nil {
			b.Fatal(err)
		}
		if order, err = stream.next(); err != nil || order.Status != "pending" {
			b.Fatalf("the first event: %+v, %v", order, err)
		}
		if err := errors.Join(producer.Produce(b.Context(), []kafka.Message{paid(b.T, order)})...); err != nil {
			b.Fatal(err)
		}
		if order, err = stream.next(); err != nil || order.Status != "paid" {
			b.Fatalf("the second event: %+v, %v", order, err)
		}
		delays = append(delays, time.Since(order.UpdatedAt)) // which the worker sets just before it commits
		stream.Close()
	}
	slices.Sort(delays)
	median := delays[tries/2]
	b.Logf("from a change to its event on %s: median %v, at most %v", instance, median, delays[tries-1])
	if median > maxDelay {
		b.Errorf("from a change to its event on %s it takes %v in the median, more than %v", instance, median, maxDelay)
	}
}

// paid is what payments tells of an order that is paid.
func paid(t *testing.T, order load.Order) kafka.Message {
	t.Helper()
	value, err := json.Marshal(contract.Payment{
		OrderID: order.ID, AccountID: order.AccountID, Amount: order.Amount, Currency: "RUB",
		Capture: contract.CaptureAutomatic,
		Status:  contract.PaymentSucceeded, CapturedAmount: order.Amount, RefundedAmount: "0.00", Version: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	header := kafka.Event{ID: uuid.NewString(), Type: contract.PaymentSucceededType, Source: "/payments",
		Subject: order.ID.String()}
	return kafka.Message{Topic: contract.TopicPayments, Key: []byte(order.AccountID.String()), Value: value,
		Headers: header.Headers()}
}

// listeners are clients of streams.
type listeners struct {
	ctx context.Context
	http.Client
	opening chan struct{} // the test's own machine is theirs: so many come at the same moment, and not all
}

func newListeners(ctx context.Context) *listeners {
	transport := &http.Transport{DisableKeepAlives: true, ReadBufferSize: 1 << 10, WriteBufferSize: 1 << 10}
	return &listeners{ctx, http.Client{Transport: transport}, make(chan struct{}, 200)}
}

// listener is one open stream.
type listener struct {
	io.Closer
	lines *bufio.Reader
}

// open opens the stream of an order. An answer such as 503, when an instance is just going, is asked for again.
func (l *listeners) open(url string, order uuid.UUID) (*listener, error) {
	l.opening <- struct{}{}
	defer func() { <-l.opening }()
	for {
		request, err := http.NewRequestWithContext(l.ctx, "GET", url+"/api/v1/orders/"+order.String()+"/stream", nil)
		if err != nil {
			return nil, err
		}
		response, err := l.Do(request)
		if err != nil {
			return nil, err
		}
		if response.StatusCode == http.StatusOK {
			return &listener{response.Body, bufio.NewReaderSize(response.Body, 1<<10)}, nil
		}
		response.Body.Close()
		if response.StatusCode < 500 {
			return nil, errors.New(response.Status)
		}
	}
}

// next returns the state that the next event tells; io.EOF is the end of the stream.
func (l *listener) next() (order load.Order, err error) {
	for {
		line, err := l.lines.ReadString('\n')
		if err != nil {
			return order, err
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			return order, json.Unmarshal([]byte(data), &order)
		}
	}
}

// follow does what a browser does: it hands over each event until the final one, which must be the last of its stream,
// and comes again after an end before that.
func (l *listeners) follow(url string, id uuid.UUID, told func(load.Order)) (order load.Order, err error) {
	for {
		stream, err := l.open(url, id)
		if err != nil {
			return order, err
		}
		for {
			next, err := stream.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				stream.Close()
				return order, err
			}
			order = next
			told(order)
		}
		stream.Close()
		if order.Final() {
			return order, nil
		}
	}
}
