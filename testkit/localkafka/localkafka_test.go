package localkafka_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// orphanEnv makes this test binary start a broker with temporary data, say so, and wait to be killed.
const orphanEnv = "ALTYN_TEST_ORPHAN"

const deadline = 2 * time.Minute

var silent = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) {
	localkafka.Child()
	if kind := os.Getenv(orphanEnv); kind != "" {
		broker, err := localkafka.Start(context.Background(), localkafka.Options{Kind: localkafka.Kind(kind)})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(broker.PID(), broker.DataDir)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	goleak.VerifyTestMain(m)
}

// kinds runs a test with each broker that this machine can run.
func kinds(t *testing.T, test func(t *testing.T, kind localkafka.Kind)) {
	for _, kind := range []localkafka.Kind{localkafka.Embedded, localkafka.Apache} {
		t.Run(string(kind), func(t *testing.T) {
			if kind == localkafka.Apache {
				for _, program := range []string{"java", "mvn"} {
					if _, err := exec.LookPath(program); err != nil {
						t.Skipf("APACHE KAFKA IS NOT TESTED HERE: %v", err)
					}
				}
			}
			test(t, kind)
		})
	}
}

func start(t *testing.T, opts localkafka.Options) *localkafka.Broker {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if opts.Progress == nil {
		opts.Progress = func(what string) { t.Log(what) }
	}
	broker, err := localkafka.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := broker.Stop(); err != nil {
			t.Error(err)
		}
	})
	return broker
}

func produce(t *testing.T, cfg kafka.Config, values ...string) {
	t.Helper()
	producer, err := kafka.NewProducer(cfg, silent, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	for _, value := range values {
		if err := producer.Produce(t.Context(), []kafka.Message{{Topic: "orders", Value: []byte(value)}})[0]; err != nil {
			t.Fatal(err)
		}
	}
}

// consume returns the next n values for the group.
func consume(t *testing.T, cfg kafka.Config, group string, n int) []string {
	t.Helper()
	consumer, err := kafka.NewConsumer(cfg, group, []string{"orders"}, silent, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var values []string
	if err := consumer.Run(ctx, func(_ context.Context, messages []kafka.Message) error {
		for _, m := range messages {
			values = append(values, string(m.Value))
		}
		if len(values) >= n {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return values
}

func TestDataSurvive(t *testing.T) {
	kinds(t, func(t *testing.T, kind localkafka.Kind) {
		opts := localkafka.Options{Kind: kind, DataDir: t.TempDir()}
		broker := start(t, opts)
		if err := kafka.EnsureTopics(t.Context(), broker.Config(), "orders"); err != nil {
			t.Fatal(err)
		}
		produce(t, broker.Config(), "a", "b")
		if got := consume(t, broker.Config(), "group", 2); fmt.Sprint(got) != "[a b]" {
			t.Fatalf("consumed %v", got)
		}
		produce(t, broker.Config(), "c")

		pid, addr := broker.PID(), broker.Addr()
		if err := broker.Kill(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-broker.Done():
		default:
			t.Error("a killed broker is not done")
		}
		opts.Port = broker.Port
		broker = start(t, opts)
		if broker.PID() == pid || broker.Addr() != addr {
			t.Errorf("process %d on %s became %d on %s", pid, addr, broker.PID(), broker.Addr())
		}
		produce(t, broker.Config(), "d")
		if got := consume(t, broker.Config(), "group", 2); fmt.Sprint(got) != "[c d]" {
			t.Errorf("after kill -9: consumed %v", got)
		}

		if err := broker.Stop(); err != nil {
			t.Fatal(err)
		}
		again := start(t, localkafka.Options{DataDir: opts.DataDir}) // the kind is known from the data
		if again.Kind != kind {
			t.Errorf("data of %s opened by %s", kind, again.Kind)
		}
		if got := consume(t, again.Config(), "another group", 4); fmt.Sprint(got) != "[a b c d]" {
			t.Errorf("after a restart on another port: consumed %v", got)
		}
	})
}

func TestBrokerEndsWithItsParent(t *testing.T) {
	kinds(t, func(t *testing.T, kind localkafka.Kind) {
		parent := exec.Command(os.Args[0])
		parent.Env = append(os.Environ(), orphanEnv+"="+string(kind))
		stdin, err := parent.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		stdout, err := parent.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := parent.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		broker, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		pid, err := strconv.Atoi(broker)
		if err != nil {
			t.Fatal(line)
		}
		if err := parent.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = parent.Wait()
		wait.Until(t, "the broker ends", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
		wait.Until(t, "its temporary data are deleted", func() bool {
			_, err := os.Stat(dir)
			return errors.Is(err, fs.ErrNotExist)
		})
	})
}

func TestTemporaryDataAreDeleted(t *testing.T) {
	broker := start(t, localkafka.Options{Kind: localkafka.Embedded})
	if err := broker.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(broker.DataDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("data of a killed broker: %v", err)
	}
	if err := broker.Stop(); err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port

	owned := t.TempDir()
	if err := os.WriteFile(filepath.Join(owned, "broker"), []byte("apache\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	busy := start(t, localkafka.Options{Kind: localkafka.Embedded, DataDir: t.TempDir()})

	for name, test := range map[string]struct {
		opts localkafka.Options
		env  string
		want []string
	}{
		"a port that is taken": {
			opts: localkafka.Options{Kind: localkafka.Embedded, Port: uint16(port)},
			want: []string{fmt.Sprintf("port %d is not free", port)},
		},
		"another broker's data": {
			opts: localkafka.Options{Kind: localkafka.Embedded, DataDir: owned},
			want: []string{owned, "set KAFKA=apache, or delete the folder"},
		},
		"another broker's data, by the environment": {
			opts: localkafka.Options{DataDir: owned}, env: "embedded",
			want: []string{"set KAFKA=apache, or delete the folder"},
		},
		"data in use": {
			opts: localkafka.Options{DataDir: busy.DataDir},
			want: []string{busy.DataDir, "another process runs a server"},
		},
		"no such broker": {
			env:  "redpanda",
			want: []string{"KAFKA=redpanda is none of apache, embedded"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KAFKA", test.env)
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			broker, err := localkafka.Start(ctx, test.opts)
			if err == nil {
				_ = broker.Stop()
				t.Fatal("started")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

// TestWithoutApache replaces java and mvn by programs that behave as on machines which lack something.
func TestWithoutApache(t *testing.T) {
	const java17 = "echo 'openjdk version \"17.0.15\" 2025-04-15' >&2"
	for name, test := range map[string]struct {
		java, mvn string // shell scripts
		want      []string
	}{
		"no java":     {want: []string{"java 17", "Install a Java runtime", "KAFKA=embedded"}},
		"an old java": {java: "echo 'java version \"1.8.0_392\"' >&2", want: []string{"java 17", `1.8.0_392`}},
		"no mvn":      {java: java17, want: []string{"fetching Apache Kafka 4.3.1", `"mvn"`, "Install Maven"}},
		"no repository": {java: java17, mvn: "echo unknown host; exit 1",
			want: []string{"Maven Central failed", "unknown host"}},
		"an empty one": {java: java17, mvn: "exit 0", want: []string{"Maven Central failed", "kafka_2.13-4.3.1.jar"}},
	} {
		t.Run(name, func(t *testing.T) {
			bin := t.TempDir()
			for program, script := range map[string]string{"java": test.java, "mvn": test.mvn} {
				if script == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cache := t.TempDir()
			t.Setenv("PATH", bin)
			t.Setenv("JAVA_HOME", "")
			t.Setenv("XDG_CACHE_HOME", cache)
			t.Setenv("HOME", cache)
			t.Setenv("KAFKA", "")

			_, err := localkafka.Start(t.Context(), localkafka.Options{Kind: localkafka.Apache})
			if err == nil {
				t.Fatal("started")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}

			var said []string
			broker := start(t, localkafka.Options{Progress: func(what string) { said = append(said, what) }})
			if broker.Kind != localkafka.Embedded || !strings.Contains(strings.Join(said, "\n"), "for development") {
				t.Errorf("%s, which said %q", broker, said)
			}
		})
	}
}
