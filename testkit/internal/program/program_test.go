package program_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/testkit/kafkatest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// killedEnv makes this test binary the process that is killed.
const killedEnv = "ALTYN_TEST_KILLED"

func TestMain(m *testing.M) { postgrestest.Main(m) }

// A server and a broker that a test process has started end with it, even when it is killed.
func TestTheProgramsEndWithTheirProcess(t *testing.T) {
	if os.Getenv(killedEnv) != "" {
		db := postgrestest.Database(t, "orders")
		fmt.Printf("servers %s %s\n", db.Config.Address(), kafkatest.Broker(t).Brokers[0])
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	process := exec.CommandContext(t.Context(), self, "-test.run", "^"+t.Name()+"$")
	process.Env = append(os.Environ(), killedEnv+"=1", postgrestest.Variable+"=")
	process.Stderr = os.Stderr
	if _, err := process.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	var servers []string
	for lines := bufio.NewScanner(output); len(servers) == 0 && lines.Scan(); {
		if list, ok := strings.CutPrefix(lines.Text(), "servers "); ok {
			servers = strings.Fields(list)
		}
	}
	if len(servers) != 2 {
		t.Fatalf("the servers are %q", servers)
	}
	for _, address := range servers {
		if !listens(address) {
			t.Errorf("nobody listens at %s", address)
		}
	}
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait()
	for _, address := range servers {
		wait.Until(t, address+" is closed", func() bool { return !listens(address) })
	}
}

func listens(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		conn.Close()
	}
	return err == nil
}
