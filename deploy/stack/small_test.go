package stack

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckPortsNamesWhatIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	free, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{taken.Addr().String(), ":" + port, "0.0.0.0:" + port} {
		err := CheckPorts(t.Context(), []Endpoint{
			{Part: "gateway", Addr: loopbackAddr(free), Variable: "GATEWAY_ADDR"},
			{Part: "orders", Addr: addr, Variable: "ORDERS_ADDR"},
		}, silent)
		if err == nil {
			t.Errorf("%s is not free", addr)
			continue
		}
		for _, want := range []string{"port " + port, "orders", "ORDERS_ADDR"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in: %v", want, err)
			}
		}
		if strings.Contains(err.Error(), "gateway") {
			t.Errorf("names one that is free: %v", err)
		}
	}
	if err := CheckPorts(t.Context(), []Endpoint{{Part: "orders", Addr: "8080", Variable: "ORDERS_ADDR"}},
		silent); err == nil {
		t.Error("8080 is no address")
	}
}

func silent(string) {}

// A connection that ends leaves its port taken for a while, though nobody listens there.
func TestCheckPortsWaitsForAConnection(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	conn, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	waits := make(chan string, 1)
	done := make(chan error, 1)
	go func() {
		done <- CheckPorts(t.Context(), []Endpoint{{Part: "orders", Addr: conn.LocalAddr().String()}},
			func(what string) { waits <- what })
	}()
	if what := <-waits; !strings.Contains(what, "orders") {
		t.Error(what)
	}
	// A reset, unlike an ordinary end, gives the port up at once.
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	failed := errors.New("failed")
	if got := withTail("orders", path, failed).Error(); got != "orders: failed" {
		t.Errorf("no file: %q", got)
	}
	long := strings.Repeat("0123456789", 80) + "\n"
	for _, test := range []struct{ name, content, want string }{
		{"fewer lines", "a\nb\n", "a\nb"},
		{"more lines", strings.Repeat("a\n", 30) + "b", strings.Repeat("a\n", tailLines-1) + "b"},
		{"longer than is read", strings.Repeat(long, 100) + "end\n", strings.Repeat(long, 10) + "end"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(test.content), 0o644); err != nil {
				t.Fatal(err)
			}
			got := withTail("orders", path, failed)
			if !errors.Is(got, failed) || !strings.HasSuffix(got.Error(), test.want) || len(got.Error()) > tailBytes+200 {
				t.Errorf("%q", got)
			}
		})
	}
}

// A log is cut while its writer has it open.
func TestTrimLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs", "a.log")
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for i, step := range []struct{ write, kept, older string }{
		{"12345", "12345", ""}, // at the limit
		{"6", "", "123456"},
		{"7", "7", "123456"},
		{"890123", "", "7890123"}, // replaces the older one
	} {
		if _, err := log.WriteString(step.write); err != nil {
			t.Fatal(err)
		}
		if err := trimLog(path, 5); err != nil {
			t.Fatal(err)
		}
		kept, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		older, _ := os.ReadFile(path + ".1")
		if string(kept) != step.kept || string(older) != step.older {
			t.Errorf("step %d: %q and %q", i, kept, older)
		}
	}
}

// Ports come from blocks that this process has for itself.
func TestFreePortsAreThisProcesssOwn(t *testing.T) {
	seen := map[uint16]bool{}
	for range 2*portsInBlock + 1 {
		port, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] || port%portsInBlock == 0 {
			t.Fatalf("port %d came twice, or is a lock", port)
		}
		seen[port] = true
		lock := loopbackAddr(port - port%portsInBlock)
		if checkFree(lock) == nil {
			t.Fatalf("another process could take the block of port %d", port)
		}
	}
}
