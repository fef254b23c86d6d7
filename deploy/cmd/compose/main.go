// Command compose tries the Compose form of the full stack for real: `make test-compose`. It needs a container engine
// and fails where none answers.
//
// It builds the images and starts everything from nothing, pays an order through the gateway, opens the pages, scales
// payments-worker while payments stays answered, and kills services, PostgreSQL and Kafka one by one while orders keep
// coming in. Afterwards every accepted order must be final and the books must add up to the last unit. At its end,
// which may be an interrupt, nothing of it is left but the images.
//
// It publishes the ports of the full stack, so that must not be running: make stop.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/altyn-pay/altyn/deploy/load"
	runner "github.com/altyn-pay/altyn/deploy/stack"
)

// limit bounds the whole trial. On 2 cores it takes about two minutes, and the first build as much again.
const limit = 20 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt ends the cleaning too
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "test-compose: %v\n", err)
		os.Exit(1)
	}
}

// The published addresses.
const (
	gateway  = "http://127.0.0.1:8000"
	orders   = "http://127.0.0.1:8080"
	payments = "http://127.0.0.1:8081"
	kafkaUI  = "http://127.0.0.1:8090"

	// of the operators' planes
	gatewayAdmin  = "http://127.0.0.1:8009"
	ordersAdmin   = "http://127.0.0.1:8180"
	paymentsAdmin = "http://127.0.0.1:8181"
)

// trial is one run of the program.
type trial struct {
	stack
	client client
}

func run(ctx context.Context) (err error) {
	root, err := runner.Root()
	if err != nil {
		return err
	}
	t := &trial{
		stack:  stack{project: "altyn-test", root: root},
		client: client{load.New(gateway)},
	}
	defer t.client.Close()
	if err := t.answers(ctx); err != nil {
		return fmt.Errorf("nothing of the Compose form was tried: %w", err)
	}
	if err := t.remove(ctx); err != nil {
		return fmt.Errorf("removing what an earlier trial left: %w", err)
	}
	if err := portsFree(); err != nil {
		return fmt.Errorf("nothing of the Compose form was tried: %w", err)
	}

	fmt.Println("trying the Compose form of the full stack; the first time, images are fetched and everything is compiled")
	defer func() {
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Minute)
		defer cancel()
		if err != nil && ctx.Err() == nil {
			t.explain(cleaning)
		}
		err = errors.Join(err, step(cleaning, "all removed, nothing left behind", t.remove))
	}()
	for _, part := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"images built", func(ctx context.Context) error { return t.compose(ctx, "build") }},
		{"everything started and ready", func(ctx context.Context) error {
			return t.compose(ctx, "up", "--detach", "--wait", "--no-build")
		}},
		{"an order paid through the gateway", t.pay},
		{"pages opened", t.pages},
		{"payments-worker scaled to 3, payments answering all the while", t.scale},
		{"killed one by one under load: every order final, the books exact", t.outages},
	} {
		if err := step(ctx, part.what, part.do); err != nil {
			return err
		}
	}
	return nil
}

// step runs one part of the trial and reports it.
func step(ctx context.Context, what string, do func(context.Context) error) error {
	start := time.Now()
	if err := do(ctx); err != nil {
		return fmt.Errorf("%s? No: %w", what, err)
	}
	fmt.Printf("ok %6.1f s  %s\n", time.Since(start).Seconds(), what)
	return nil
}

// note reports something about the current step.
func note(format string, args ...any) { fmt.Printf("             "+format+"\n", args...) }

// portsFree returns an error that names the full stack's ports that are taken.
func portsFree() error {
	var taken []string
	for _, port := range []string{"8000", "8009", "8080", "8081", "8090", "8180", "8181", "9092", "54320"} {
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			taken = append(taken, port)
			continue
		}
		listener.Close()
	}
	if len(taken) > 0 {
		return fmt.Errorf("something listens on port %s: is the full stack running? make stop ends it",
			strings.Join(taken, ", "))
	}
	return nil
}

// pay checks that one order is paid and its account charged.
func (t *trial) pay(ctx context.Context) error {
	account, err := t.client.fund(ctx, 10)
	if err != nil {
		return err
	}
	if err := t.client.pay(ctx, account); err != nil {
		return err
	}
	return t.client.expect(ctx, account, 9)
}

// pages requests what a browser would open.
func (t *trial) pages(context.Context) error {
	browser := load.New("")
	defer browser.Close()
	for _, url := range []string{
		orders + "/docs/index.html", orders + "/healthz", ordersAdmin + "/metrics", ordersAdmin + "/admin/parked",
		payments + "/docs/index.html", payments + "/healthz", paymentsAdmin + "/metrics", paymentsAdmin + "/admin/parked",
		gateway + "/docs/index.html", gateway + "/healthz", gateway + "/readyz", gatewayAdmin + "/metrics",
		kafkaUI + "/",
	} {
		if err := browser.Call("GET", url, "", nil, nil); err != nil {
			return fmt.Errorf("%s: %w", url, err)
		}
	}
	for url, path := range map[string]string{
		orders + "/docs/doc.json":       "/api/v1/orders",
		payments + "/docs/doc.json":     "/api/v1/accounts",
		gateway + "/docs/orders.json":   "/api/v1/orders",
		gateway + "/docs/payments.json": "/api/v1/accounts",
	} {
		var specification struct{ Paths map[string]any }
		if err := browser.Call("GET", url, "", nil, &specification); err != nil {
			return fmt.Errorf("%s: %w", url, err)
		}
		if specification.Paths[path] == nil {
			return fmt.Errorf("%s does not describe %s", url, path)
		}
	}
	return nil
}
