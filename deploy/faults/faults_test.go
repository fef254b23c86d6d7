package faults

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// binaries are the services, built once for all tests.
var binaries string

var clocks = flag.Bool("clocks", false, "run the services with clocks that can be wrong, for which they are built anew")

func TestMain(m *testing.M) {
	localkafka.Child()
	flag.Parse()
	build := func(ctx context.Context, dir string) error { return stack.Build(ctx, dir) }
	if *clocks {
		build = Build
	}
	os.Exit(func() int {
		var err error
		if binaries, err = os.MkdirTemp("", "altyn-faults-programs-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(binaries)
		if err := build(context.Background(), binaries); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// start starts a site that ends with the test.
func start(t *testing.T, opts Options) *Site {
	t.Helper()
	opts.Binaries, opts.Clocks, opts.Progress = binaries, *clocks, func(line string) { t.Log(line) }
	s, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, part := range s.Parts() {
			if text, err := os.ReadFile(part.Log); t.Failed() && err == nil {
				t.Logf("%s:\n%s", part.Log, text[max(0, len(text)-4000):])
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// broker is Apache Kafka where it can run.
func broker(t *testing.T) stack.Kafka {
	if err := localkafka.ApacheAvailable(t.Context()); err != nil {
		t.Logf("NOT RUN on Apache Kafka, which needs Java 17 and Maven, so no link to it is cut: %v", err)
		return stack.Kafka{Kind: localkafka.Embedded}
	}
	return stack.Kafka{Kind: localkafka.Apache}
}

// harm injects faults one after another, and expects that nothing is found.
func (s *Site) harm(t *testing.T, injections []Injection) Report {
	t.Helper()
	report, err := s.Run(t.Context(), Plan{Injections: injections, Together: 1, Groups: 2, Seed: 1,
		Progress: func(line string) { t.Log(line) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range report.Findings {
		t.Error(finding)
	}
	t.Logf("%v, %v; quiet after %v", report.Injected, report.Answered, report.Quiet)
	return report
}

// Every pair of parts is cut, one way, the other and both, every part freezes, every clock is wrong for a while, and
// the disks of PostgreSQL and of Kafka are full until they have said so.
func TestEachFaultHeals(t *testing.T) {
	disks := CanMount(t.Context())
	if disks != nil {
		t.Logf("NOT RUN with a full disk, which needs Linux and the right to mount: %v", disks)
	}
	s := start(t, Options{Kafka: broker(t), Services: stack.Instances(1, 1, 0), Disks: disks == nil})
	var injections []Injection
	for _, fault := range s.Faults() {
		lasts := 300 * time.Millisecond
		switch {
		case fault.Kind == Killed: // see TestCrashes
			continue
		case fault.Kind == Full:
			fault = s.untilToldOf(t, fault)
		case fault.Kind == Wrong && strings.Contains(fault.How, "1m"), strings.HasSuffix(fault.How, "for good"):
			continue
		}
		injections = append(injections, Injection{Fault: fault, Lasts: lasts})
	}
	s.harm(t, injections)
}

// untilToldOf is a full disk that lasts until its server has complained of it, or has ended.
func (s *Site) untilToldOf(t *testing.T, full Fault) Fault {
	begin := full.Begin
	full.Begin = func() (func() error, error) {
		part := s.Part(full.Of)
		end, err := begin()
		return func() error {
			wait.Until(t, full.Of+" notices that the disk is full", func() bool {
				text, err := os.ReadFile(part.Log)
				return err == nil && strings.Contains(string(text), "No space left on device") || s.Part(full.Of).PID != part.PID
			})
			return end()
		}, err
	}
	return full
}

// An address of a service that could not be reached is tried again a second later, also where the clock of the gateway
// was set back meanwhile.
func TestClockOfTheGatewayStepsBack(t *testing.T) {
	needClocks(t)
	services := stack.Instances(1, 1, 0)
	port, err := stack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	for i := range services { // not by way of a link, which would take the connection
		switch addr := fmt.Sprintf("127.0.0.1:%d", port); services[i].Program {
		case stack.Orders:
			services[i].Addr = addr
		case stack.Gateway:
			services[i].Env = []string{"ORDERS_URL=http://" + addr}
		}
	}
	s := start(t, Options{Kafka: stack.Kafka{Kind: localkafka.Embedded}, Services: services})
	look := func() error { return s.Client.Call("GET", load.OrdersPath, "", nil, nil) }
	if err := errors.Join(look(), s.Kill(stack.Orders)); err != nil {
		t.Fatal(err)
	}
	var refused *load.StatusError
	if err := look(); !errors.As(err, &refused) || refused.Code() != "upstream_unavailable" {
		t.Fatalf("without orders: %v", err)
	}
	if err := errors.Join(s.clocks[stack.Gateway].Set(-time.Hour), s.Restart(stack.Orders)); err != nil {
		t.Fatal(err)
	}
	wait.NoError(t, look)
}

func needClocks(t *testing.T) {
	if !*clocks {
		t.Skip("NOT RUN: go test ./deploy/faults -clocks builds programs whose clocks can be wrong, which takes minutes")
	}
}

// The package time of this version of Go can be changed.
func TestOverlay(t *testing.T) {
	if _, err := overlay(t.Context(), t.TempDir()); err != nil {
		t.Error(err)
	}
}

// What is sent while a link is cut is held back, and arrives when it is whole again.
func TestLink(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	link, err := NewLink("client", "server", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	client, err := net.Dial("tcp", link.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	served, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	ends := map[Way][2]net.Conn{There: {client, served}, Back: {served, client}}
	say := func(way Way, word string) {
		if _, err := fmt.Fprintln(ends[way][0], word); err != nil {
			t.Fatal(err)
		}
	}
	heard := map[Way]*bufio.Reader{There: bufio.NewReader(served), Back: bufio.NewReader(client)}
	hear := func(way Way, want string) {
		t.Helper()
		if got, err := heard[way].ReadString('\n'); err != nil || got != want+"\n" {
			t.Fatalf("%s comes %q, %v; want %q", way, got, err, want)
		}
	}
	for cut, whole := range map[Way]Way{There: Back, Back: There} {
		link.Cut(cut)
		say(cut, "held back")
		for _, word := range []string{"one", "two"} { // a second one, by whose time the first would have come
			say(whole, word)
			hear(whole, word)
		}
		if err := ends[cut][1].SetReadDeadline(time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := heard[cut].ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("cut %s: %v", cut, err)
		}
		if err := ends[cut][1].SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		link.Cut(0)
		hear(cut, "held back")
	}
	link.Cut(Both)
	say(There, "lost")
	link.Reset()
	link.Cut(0)
	if text, err := heard[There].ReadString('\n'); err == nil {
		t.Errorf("after a reset: %q", text)
	}
}

// The times and deadlines of orders do not depend on the clocks of the services: not on one that was wrong from their
// start, and not on one that steps.
func TestClocksOfTheServicesAreWrong(t *testing.T) {
	needClocks(t)
	services := stack.Instances(1, 1, 0)
	s := start(t, Options{Kafka: stack.Kafka{Kind: localkafka.Embedded}, Services: services})
	account := s.account(t)
	for _, wrong := range []map[string]time.Duration{
		{stack.Orders: -time.Hour, stack.Payments: time.Hour}, {stack.Orders: time.Hour, stack.Payments: -time.Hour},
	} {
		for name, by := range wrong {
			if err := s.clocks[name].Set(by); err != nil {
				t.Fatal(err)
			}
		}
		for _, restart := range []bool{false, true} {
			for name := range wrong {
				if restart {
					if err := errors.Join(s.Restart(name), s.WaitReady(t.Context(), name)); err != nil {
						t.Fatal(err)
					}
				}
			}
			begin := time.Now()
			order, err := s.Client.Place(t.Context(), uuid.NewString(), load.NewOrder{AccountID: account, Amount: "1.00",
				Currency: "RUB", Capture: "manual", ExpiresIn: "10m"})
			if err != nil {
				t.Fatal(err)
			}
			var seen load.Order
			wait.NoError(t, func() error {
				if err := s.Client.Get(t.Context(), load.OrdersPath+"/"+order.ID.String(), &seen); err != nil {
					return err
				}
				if seen.Status == "pending" {
					return fmt.Errorf("order %s is pending", order.ID)
				}
				return nil
			})
			const apart = time.Minute
			if seen.Status != "authorized" || seen.CreatedAt.Before(begin.Add(-apart)) ||
				seen.UpdatedAt.After(time.Now().Add(apart)) || seen.ExpiresAt.Sub(begin) > 10*time.Minute+apart {
				t.Errorf("clocks wrong by %v, at the start: %t: %+v", wrong, restart, seen)
			}
		}
	}
}

// account opens an account with money.
func (s *Site) account(t *testing.T) uuid.UUID {
	t.Helper()
	accounts, err := s.Client.Accounts(t.Context(), 1, 1, "100.00", "RUB")
	if err != nil {
		t.Fatal(err)
	}
	return accounts[0]
}

// Of three brokers, of which two must have each message, one is cut off from the others and one is killed, and
// PostgreSQL is lost under load: nothing that was acknowledged is.
func TestABrokerAndThePrimaryAreLost(t *testing.T) {
	if err := localkafka.ApacheAvailable(t.Context()); err != nil {
		t.Skipf("NOT RUN on three brokers of Apache Kafka, which needs Java 17 and Maven: %v", err)
	}
	kafka := stack.Kafka{Kind: localkafka.Apache, Brokers: 3}
	s := start(t, Options{Kafka: kafka, Services: stack.Instances(1, 2, 0), Standby: true})
	var injections []Injection
	for _, fault := range s.Faults() {
		// Each broker leads some of the partitions.
		if fault.Kind == Lost || fault.Kind == Killed && fault.Of == stack.Brokers(kafka)[1] ||
			fault.String() == "cut: brokers to kafka, both ways" {
			injections = append(injections, Injection{Fault: fault, Lasts: time.Second, Pause: 2 * time.Second})
		}
	}
	s.harm(t, injections)
}
