package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/deploy/load"
)

// poll calls done now and then until it returns true, or ctx ends. done returns true with an error to give up, and
// false with an error for what may pass; at the end of ctx the last of those is part of the error.
func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// client places orders through the gateway.
type client struct{ *load.Client }

// get reads a path, and tries again while a server has a fault.
func (c client) get(ctx context.Context, path string, out any) error {
	return poll(ctx, func() (bool, error) {
		err := c.Call("GET", path, "", nil, out)
		var answer *load.StatusError
		return err == nil || errors.As(err, &answer) && answer.Status < 500, err
	})
}

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
	if err := c.get(ctx, "/api/v1/accounts/"+account.String()+"/balance", &balance); err != nil {
		return err
	}
	if expected := fmt.Sprintf("%d.00", roubles); balance.Actual["RUB"] != expected {
		return fmt.Errorf("account %s has %q, not %s", account, balance.Actual["RUB"], expected)
	}
	return nil
}

// place places an order of one rouble and returns its ID. It repeats the request under one key until it is answered.
func (c client) place(ctx context.Context, account uuid.UUID) (uuid.UUID, error) {
	request := load.NewOrder{AccountID: account, Amount: "1.00", Currency: "RUB"}
	var order load.Order
	err := c.Retry(ctx, "/api/v1/orders", uuid.NewString(), request, &order)
	return order.ID, err
}

// paid waits until an order is final and reports whether it was paid.
func (c client) paid(ctx context.Context, id uuid.UUID) (bool, error) {
	var order load.Order
	err := poll(ctx, func() (bool, error) {
		err := c.get(ctx, "/api/v1/orders/"+id.String()+"?wait=5s", &order)
		return err != nil || order.Final(), err
	})
	if err == nil && order.Status != "paid" && order.Reason != "insufficient_funds" {
		err = fmt.Errorf("it is %s: %s", order.Status, order.Reason)
	}
	if err != nil {
		return false, fmt.Errorf("order %s: %w", id, err)
	}
	return order.Status == "paid", nil
}

// crowd places orders at a steady rate on its accounts in turn, and remembers those that were accepted.
type crowd struct {
	client   client
	accounts []uuid.UUID

	mu       sync.Mutex
	accepted map[uuid.UUID][]uuid.UUID // orders by account
	err      error
}

// run places orders until ctx ends. Then it waits up to two minutes for those in flight, so that it knows of every
// accepted order.
func (c *crowd) run(ctx context.Context) error {
	const pace, atOnce, patience = 25 * time.Millisecond, 64, 2 * time.Minute
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(patience, cancel) })()

	var inFlight sync.WaitGroup
	free := make(chan struct{}, atOnce)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		select {
		case <-ctx.Done():
		case <-tick.C:
			free <- struct{}{}
			inFlight.Go(func() {
				defer func() { <-free }()
				c.place(patient, c.accounts[n%len(c.accounts)])
			})
		}
	}
	inFlight.Wait()
	return c.err
}

func (c *crowd) place(ctx context.Context, account uuid.UUID) {
	id, err := c.client.place(ctx, account)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.err = errors.Join(c.err, err)
		return
	}
	c.accepted[account] = append(c.accepted[account], id)
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
