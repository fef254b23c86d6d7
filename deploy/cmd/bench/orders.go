package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/deploy/audit"
	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/postgres"
)

// orders measures orders through the gateway, from the first request until the last order is final.
func orders(ctx context.Context, running *stack.Stack, s settings) (Orders, error) {
	result := Orders{Clients: s.clients, Accounts: s.accounts, RSS: map[string]int64{}}
	client := load.New(running.URL("gateway"))
	defer client.Close()
	accounts, err := client.Accounts(ctx, s.accounts, s.clients, "1000000.00", "RUB")
	if err != nil {
		return result, err
	}
	ordersDB, err := open(running, "orders")
	if err != nil {
		return result, err
	}
	defer ordersDB.Close()
	paymentsDB, err := open(running, "payments")
	if err != nil {
		return result, err
	}
	defer paymentsDB.Close()

	// A quarter of the time to warm up.
	if _, _, err = flood(ctx, client, accounts, s.clients, s.duration/4, "warming up"); err != nil {
		return result, err
	}
	if _, err = audit.AtRest(ctx, ordersDB, paymentsDB); err != nil {
		return result, err
	}
	begin := time.Now()
	n, latencies, err := flood(ctx, client, accounts, s.clients, s.duration, "orders placed")
	if err != nil {
		return result, err
	}
	if err := final(ctx, ordersDB); err != nil {
		return result, err
	}
	result.Count, result.PerSecond = n, float64(n)/time.Since(begin).Seconds()
	slices.Sort(latencies)
	result.RequestP50MS, result.RequestP99MS = ms(latencies[len(latencies)/2]), ms(latencies[len(latencies)*99/100])
	// Once all is at rest again, and warm.
	if result.IdleMedianMS, err = idle(ctx, client, accounts); err != nil {
		return result, err
	}
	for _, part := range running.Parts() {
		if part.Name == stack.PostgresName || part.Name == stack.KafkaName {
			continue
		}
		if result.RSS[part.Name], err = peakRSS(part.PID); err != nil {
			return result, err
		}
	}
	if _, err := audit.AtRest(ctx, ordersDB, paymentsDB); err != nil {
		return result, fmt.Errorf("the books are wrong: %w", err)
	}
	result.BooksAreRight = true
	return result, nil
}

func open(running *stack.Stack, service string) (*sqlx.DB, error) {
	cfg, err := running.Database(service)
	if err != nil {
		return nil, err
	}
	return postgres.OpenOwner(cfg)
}

// idle places orders one at a time and returns the median time from accepted to final, by the service's own times.
func idle(ctx context.Context, client *load.Client, accounts []uuid.UUID) (float64, error) {
	const orders = 100
	took := make([]time.Duration, orders)
	for i := range took {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		var order load.Order
		request := load.NewOrder{AccountID: accounts[i%len(accounts)], Amount: "1.00", Currency: "RUB"}
		if err := client.Call("POST", "/api/v1/orders?wait=10s", "", request, &order); err != nil {
			return 0, err
		}
		if order.Status != "paid" {
			return 0, fmt.Errorf("order %s is %s after 10 s", order.ID, order.Status)
		}
		took[i] = order.UpdatedAt.Sub(order.CreatedAt)
	}
	slices.Sort(took)
	return ms(took[orders/2]), nil
}

// flood places orders from all clients at once, each its next when the last is accepted.
func flood(ctx context.Context, client *load.Client, accounts []uuid.UUID, clients int, duration time.Duration, what string) (int, []time.Duration, error) {
	bodies := make([][]byte, len(accounts))
	for i, account := range accounts {
		bodies[i] = fmt.Appendf(nil, `{"account_id":"%s","amount":"1.00","currency":"RUB"}`, account)
	}
	const most = 1 << 30
	progress := load.NewProgress(os.Stderr, what, 0)
	defer progress.Close()
	var mu sync.Mutex
	var latencies []time.Duration
	end := time.Now().Add(duration)
	err := load.Each(ctx, clients, clients, func(worker int) error {
		var own []time.Duration
		for i := worker; i < most; i += clients {
			begin := time.Now()
			if begin.After(end) {
				break
			}
			if err := client.Call("POST", "/api/v1/orders", "", bodies[i%len(bodies)], nil); err != nil {
				return fmt.Errorf("place an order: %w", err)
			}
			own = append(own, time.Since(begin))
			progress.Add(1)
		}
		mu.Lock()
		defer mu.Unlock()
		latencies = append(latencies, own...)
		return nil
	})
	return len(latencies), latencies, err
}

// final waits until no order is pending.
func final(ctx context.Context, db *sqlx.DB) error {
	for deadline := time.Now().Add(time.Minute); ; {
		var pending bool
		if err := db.GetContext(ctx, &pending, `SELECT EXISTS (SELECT FROM orders WHERE status = 'pending')`); err != nil {
			return err
		}
		if !pending {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("orders are pending after a minute")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// peakRSS reads the most memory that a process ever had, in bytes; 0 where the system does not tell.
func peakRSS(pid int) (int64, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "kB")), 10, 64)
			return kb * 1024, err
		}
	}
	return 0, nil
}
