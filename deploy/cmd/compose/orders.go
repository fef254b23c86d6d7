package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/load"
)

// client places orders through the gateway.
type client struct{ *load.Client }

// fund opens an account with so many roubles.
func (c client) fund(ctx context.Context, roubles int) (uuid.UUID, error) {
	accounts, err := c.Accounts(ctx, 1, 1, fmt.Sprintf("%d.00", roubles), "RUB")
	if err != nil {
		return uuid.Nil, err
	}
	return accounts[0], nil
}

// expect checks that an account has so many roubles.
func (c client) expect(ctx context.Context, account uuid.UUID, roubles int) error {
	var balance struct {
		Actual map[string]string `json:"actual_balance"`
	}
	if err := c.Get(ctx, "/api/v1/accounts/"+account.String()+"/balance", &balance); err != nil {
		return err
	}
	if expected := fmt.Sprintf("%d.00", roubles); balance.Actual["RUB"] != expected {
		return fmt.Errorf("account %s has %q, not %s", account, balance.Actual["RUB"], expected)
	}
	return nil
}

// place places an order of one rouble and returns its ID. It repeats the request under one key until it is answered.
func (c client) place(ctx context.Context, account uuid.UUID) (uuid.UUID, error) {
	order, err := c.Place(ctx, uuid.NewString(), load.NewOrder{AccountID: account, Amount: "1.00", Currency: "RUB"})
	return order.ID, err
}

// paid waits until an order is final and reports whether it was paid.
func (c client) paid(ctx context.Context, id uuid.UUID) (bool, error) {
	var order load.Order
	for !order.Final() {
		if err := c.Get(ctx, load.OrdersPath+"/"+id.String()+"?wait=5s", &order); err != nil {
			return false, fmt.Errorf("order %s: %w", id, err)
		}
	}
	if order.Status != "paid" && order.Reason != "insufficient_funds" {
		return false, fmt.Errorf("order %s is %s: %s", id, order.Status, order.Reason)
	}
	return order.Status == "paid", nil
}

// pay places an order and checks that it is paid.
func (c client) pay(ctx context.Context, account uuid.UUID) error {
	id, err := c.place(ctx, account)
	if err != nil {
		return err
	}
	if paid, err := c.paid(ctx, id); err != nil || !paid {
		return errors.Join(fmt.Errorf("order %s is not paid", id), err)
	}
	return nil
}

// crowd places orders at a steady rate on its accounts in turn, and remembers those that were accepted.
type crowd struct {
	client   client
	accounts []uuid.UUID

	mu       sync.Mutex
	accepted map[uuid.UUID][]uuid.UUID // orders by account
}

// run places orders until stop is closed, and returns when all of them are answered.
func (c *crowd) run(ctx context.Context, stop <-chan struct{}) error {
	const every, atOnce = 25 * time.Millisecond, 64
	var inFlight errgroup.Group
	inFlight.SetLimit(atOnce)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return inFlight.Wait()
		case <-ctx.Done():
			return errors.Join(ctx.Err(), inFlight.Wait())
		case <-tick.C:
		}
		inFlight.Go(func() error {
			account := c.accounts[n%len(c.accounts)]
			id, err := c.client.place(ctx, account)
			if err != nil {
				return err
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.accepted[account] = append(c.accepted[account], id)
			return nil
		})
	}
}

// count is the number of orders accepted so far.
func (c *crowd) count() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ids := range c.accepted {
		n += len(ids)
	}
	return n
}

// settle waits until the orders of an account are final and returns how many were paid.
func (c *crowd) settle(ctx context.Context, account uuid.UUID) (paid int, err error) {
	for _, id := range c.accepted[account] {
		ok, err := c.client.paid(ctx, id)
		if err != nil {
			return paid, err
		}
		if ok {
			paid++
		}
	}
	return paid, nil
}
