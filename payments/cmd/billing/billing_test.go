package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
)

// billing runs the program as from a command line.
func billing(t *testing.T, cfg kafka.Config, args ...string) (code int, out, warnings string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	p := program(&stdout, &stderr)
	p.Env = map[string]string{"KAFKA_BROKERS": strings.Join(cfg.Brokers, ",")}
	code = p.Run(t.Context(), args)
	return code, stdout.String(), stderr.String()
}

// answered runs a command that must succeed with a reply and returns it.
func answered(t *testing.T, cfg kafka.Config, args ...string) contract.Reply {
	t.Helper()
	code, out, warnings := billing(t, cfg, append(args, "--json")...)
	var r contract.Reply
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitDone || warnings != "" ||
		strings.Count(out, "\n") != 1 {
		t.Fatalf("%v: exit code %d, %v\n%s%s", args, code, err, out, warnings)
	}
	return r
}

func TestOneCommandAfterAnother(t *testing.T) {
	t.Parallel()
	cfg := start(t, nil)
	a := answered(t, cfg, "create-account", "--owner", "alice", "--reference", "r").Body.(map[string]any)["id"].(string)
	b := uuid.NewString()
	answered(t, cfg, "create-account", "--id", b)
	answered(t, cfg, "deposit", "--account", a, "--amount", "777", "--currency", "RUB")
	answered(t, cfg, "invoice", "--account", a, "--amount", "1", "--currency", "RUB", "--reference",
		"7", "--description", "d")
	answered(t, cfg, "transfer", "--from", a, "--to", b, "--amount", "111", "--currency", "RUB")
	answered(t, cfg, "withdraw", "--account", a, "--amount", "7", "--currency", "RUB")
	first := answered(t, cfg, "hold", "--account", a, "--amount", "60", "--currency", "RUB",
		"--expires-in", "15m").OperationID
	second := answered(t, cfg, "hold", "--account", a, "--amount", "40", "--currency", "RUB").OperationID
	answered(t, cfg, "capture", "--hold", first.String(), "--amount", "25")
	answered(t, cfg, "release", "--hold", second.String())
	got := answered(t, cfg, "balance", "--account", a, "--replies", "billing.replies.shop")
	if body := fmt.Sprint(got.Body); body != "map[actual_balance:map[RUB:635.00] frozen_balance:map[RUB:0.00]]" {
		t.Error(body)
	}

	id := uuid.NewString()
	code, out, _ := billing(t, cfg, "balance", "--account", a, "--command-id", id)
	if code != exitDone || !strings.Contains(out, `  "command_id": "`+id+`",`) {
		t.Errorf("exit code %d: %s", code, out)
	}
	code, out, warnings := billing(t, cfg, "withdraw", "--account", b, "--amount", "111.01", "--currency", "RUB")
	if code != exitRefused || !strings.Contains(out, `"reason": "insufficient_funds"`) || warnings != "" {
		t.Errorf("exit code %d: %s%s", code, out, warnings)
	}
}

func TestSeed(t *testing.T) {
	t.Parallel()
	cfg := start(t, nil)
	code, out, warnings := billing(t, cfg, "seed", "--accounts", "12")
	if code != exitDone || warnings != "" {
		t.Fatalf("exit code %d: %s", code, warnings)
	}
	for _, want := range []string{"USDT\n", " alice ", " bob2 ", " 75000.00 ", " 12000.000000\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	code, out, warnings := billing(t, start(t, nil), "load", "--commands", "3000", "--accounts",
		"20", "--in-flight", "200")
	if code != exitDone {
		t.Fatalf("exit code %d: %s%s", code, out, warnings)
	}
	for _, want := range []string{"3000 commands in ", "were refused for lack of money", "exactly one reply"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if strings.Contains(out, " 0 were refused") || warnings != "" {
		t.Errorf("%s%s", out, warnings)
	}
}

// A reply that is delivered twice is no fault; everything else that should not be is.
func TestLoadNotices(t *testing.T) {
	t.Parallel()
	// spoil changes one reply of an operation, sent so often, after some have been right.
	spoil := func(operation string, copies func() []uuid.UUID, change func(r *contract.Reply)) func(int,
		contract.Command, *contract.Reply) []uuid.UUID {
		spoilt := false
		return func(n int, c contract.Command, r *contract.Reply) []uuid.UUID {
			if spoilt || n < 100 || c.Operation != operation || r.Status == statusError && operation != "balance" {
				return []uuid.UUID{uuid.New()}
			}
			spoilt = true
			if change != nil {
				change(r)
			}
			return copies()
		}
	}
	once := func() []uuid.UUID { return []uuid.UUID{uuid.New()} }
	body := func(change func(o *contract.Operation)) func(r *contract.Reply) {
		return func(r *contract.Reply) {
			o := r.Body.(contract.Operation)
			change(&o)
			r.Body = o
		}
	}
	for name, test := range map[string]struct {
		spoil func(int, contract.Command, *contract.Reply) []uuid.UUID
		code  int
		want  string
	}{
		"the same reply again": {spoil("transfer", func() []uuid.UUID {
			id := uuid.New()
			return []uuid.UUID{id, id}
		}, nil), exitDone, "1 replies were delivered more than once"},
		"a question answered twice": {spoil("balance", func() []uuid.UUID { return []uuid.UUID{uuid.New(), uuid.New()} },
			nil), exitDone, "exactly one reply"},
		"a second reply": {spoil("transfer", func() []uuid.UUID { return []uuid.UUID{uuid.New(), uuid.New()} },
			nil), exitRefused, "got a second reply"},
		"no reply": {spoil("transfer", func() []uuid.UUID { return nil }, nil),
			exitUnknown, "no reply to command"},
		"another amount": {spoil("transfer", once, body(func(o *contract.Operation) { o.Amount = "0.00" })),
			exitRefused, "about something else"},
		"another account": {spoil("deposit", once,
			body(func(o *contract.Operation) { o.AccountID = uuid.New() })), exitRefused, "about something else"},
		"a refusal that was none": {spoil("withdraw", once, func(r *contract.Reply) {
			r.Code, r.Status, r.Reason, r.Body = 422, "error", "insufficient_funds", nil
		}), exitRefused, "by the replies it must have"},
		"a refusal without reason": {spoil("withdraw", once, func(r *contract.Reply) {
			r.Code, r.Status, r.Reason, r.Body = 422, "error", "hold_not_open", nil
		}), exitRefused, "withdraw was refused"},
		"money that vanished": {spoil("balance", once, func(r *contract.Reply) {
			r.Body.(contract.Balances).Frozen["RUB"] = "0.01"
		}), exitRefused, "by the replies it must have"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := "1m"
			if test.code == exitUnknown {
				timeout = "8s" // which it takes
			}
			code, out, warnings := billing(t, start(t, test.spoil), "load", "--commands", "500", "--accounts", "5",
				"--in-flight", "50", "--timeout", timeout)
			if code != test.code || !strings.Contains(out+warnings, test.want) {
				t.Errorf("exit code %d, want %d and %q in\n%s%s", code, test.code, test.want, out, warnings)
			}
		})
	}
}

// Replies from before the client began and those of other clients are not its own.
func TestOtherRepliesAreIgnored(t *testing.T) {
	t.Parallel()
	cfg := kafkatest.Broker(t)
	if err := kafka.EnsureTopics(t.Context(), cfg, contract.TopicCommands, contract.TopicReplies); err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(producer.Close)
	id := uuid.New()
	say := func(payloads ...string) {
		var messages []kafka.Message
		for _, payload := range payloads {
			messages = append(messages, kafka.Message{Topic: contract.TopicReplies, Value: []byte(payload)})
		}
		if err := errors.Join(producer.Produce(t.Context(), messages)...); err != nil {
			t.Fatal(err)
		}
	}
	say(`{"command_id":"` + id.String() + `","status":"success","detail":"stale"}`)
	c, err := dial(t.Context(), connection{Kafka: cfg, Replies: contract.TopicReplies}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	type outcome struct {
		reply reply
		err   error
	}
	got := make(chan outcome)
	go func() {
		r, err := c.call(t.Context(), contract.Command{CommandID: &id, Operation: "balance", AccountID: &id})
		got <- outcome{r, err}
	}()
	// The command must be there before its reply: a client remembers it from then on.
	tail, err := kafka.NewConsumer(cfg, "service", []string{contract.TopicCommands}, slog.New(slog.DiscardHandler),
		prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := tail.Run(ctx, func(context.Context, []kafka.Message) error {
		cancel()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	say(`not json`, `{"command_id":null,"status":"error"}`, `{"command_id":"`+uuid.NewString()+`","status":"error"}`,
		`{"command_id":"`+id.String()+`","status":"success","detail":"fresh"}`)
	if o := <-got; o.err != nil || o.reply.Detail != "fresh" {
		t.Errorf("%+v, %v", o.reply.Reply, o.err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	cfg := kafkatest.Broker(t)
	balance := []string{"balance", "--account", exampleA}
	code, _, warnings := billing(t, kafkatest.Config("127.0.0.1:1"), balance...)
	if code != exitUnknown || !strings.Contains(warnings, "127.0.0.1:1") || !strings.Contains(warnings, "make start") {
		t.Errorf("no broker: exit code %d, %s", code, warnings)
	}
	code, _, warnings = billing(t, cfg, append(balance, "--timeout", "1m")...)
	if code != exitUnknown || !strings.Contains(warnings, "billing.replies") {
		t.Errorf("no topic: exit code %d, %s", code, warnings)
	}
	if err := kafka.EnsureTopics(t.Context(), cfg, contract.TopicCommands, contract.TopicReplies); err != nil {
		t.Fatal(err)
	}
	c, err := dial(t.Context(), connection{Kafka: cfg, Replies: contract.TopicReplies}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	ctx, cancel := timeout(10 * time.Millisecond).begin(t.Context())
	defer cancel()
	id := uuid.New()
	_, err = c.call(ctx, contract.Command{CommandID: &id, Operation: "balance", AccountID: &id})
	if text := fmt.Sprint(err); !errors.As(err, new(unknownError)) || !strings.Contains(text, "within 10ms") ||
		!strings.Contains(text, "--command-id "+id.String()) {
		t.Errorf("no reply: %v", err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, want string }{
		{"dance", `no command "dance"`},
		{"deposit", "deposit: --account is missing"},
		{"deposit --account " + exampleA + " --amount 1 --currency ", "--currency is missing"},
		{"deposit --account nonsense --amount 1 --currency RUB", "must be a UUID"},
		{"capture --hold " + exampleHold + " --amount ", "must not be empty"},
		{"deposit --amount 1 --currency RUB --account urn:uuid:" + exampleA, "must be a UUID"},
		{"deposit --colour red", "-colour"},
		{"balance --account " + exampleA + " " + exampleB, "there is no argument"},
		{"balance --account " + exampleA + " --timeout 0s", "--timeout"},
		{"load --commands 0", "--commands"},
		{"load --accounts 1", "--accounts"},
		{"load --in-flight 100001", "--in-flight"},
		{"seed --accounts 0", "--accounts"},
	} {
		code, out, warnings := billing(t, kafka.Config{}, strings.Split(test.args, " ")...)
		if code != exitUsage || !strings.Contains(warnings, test.want) || out != "" || strings.Count(warnings, "\n") != 1 {
			t.Errorf("billing %s: exit code %d, %s%s", test.args, code, out, warnings)
		}
	}
	if code, _, warnings := billing(t, kafkatest.Config("nowhere"), "balance", "--account",
		exampleA); code != exitUsage || !strings.Contains(warnings, "KAFKA_BROKERS") {
		t.Errorf("a bad environment: exit code %d, %s", code, warnings)
	}
}

// Every example of the help, but for what is behind a pipe, must be one that the program takes.
func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"--help"}, {"help"}} {
		code, out, warnings := billing(t, kafka.Config{}, args...)
		if code != exitDone || warnings != "" || !strings.Contains(out, "KAFKA_BROKERS") ||
			!strings.Contains(out, "  release  ") {
			t.Errorf("billing %v: exit code %d, %s%s", args, code, out, warnings)
		}
	}
	nowhere := kafkatest.Config("127.0.0.1:1")
	for _, c := range program(nil, nil).Commands {
		code, out, _ := billing(t, kafka.Config{}, c.Name, "--help")
		if code != exitDone || !strings.Contains(out, c.Help) ||
			!strings.Contains(out, "--timeout DURATION") || len(c.Examples) == 0 {
			t.Errorf("billing %s --help: exit code %d, %s", c.Name, code, out)
		}
		if _, same, _ := billing(t, kafka.Config{}, "help", c.Name); same != out {
			t.Errorf("billing help %s is another help", c.Name)
		}
		for _, example := range c.Examples {
			command, _, _ := strings.Cut(example, " |")
			code, _, warnings := billing(t, nowhere, append([]string{c.Name}, strings.Fields(command)...)...)
			if code != exitUnknown {
				t.Errorf("the example billing %s %s: exit code %d, %s", c.Name, example, code, warnings)
			}
		}
	}
}

func TestMisspeltArguments(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"depsoit":              `there is no command "depsoit"`,
		"deposit --amout 5":    "flag provided but not defined: -amout",
		"balance --account 5":  `--account: "5" must be a UUID`,
		"seed --accounts many": `--accounts: "many" must be a whole number`,
	} {
		code, out, warnings := billing(t, kafka.Config{}, strings.Fields(args)...)
		if code != exitUsage || out != "" || !strings.Contains(warnings, want) {
			t.Errorf("billing %s: exit code %d, %s%s", args, code, out, warnings)
		}
	}
	if code, out, _ := billing(t, kafka.Config{}, "--version"); code != exitDone || !strings.HasPrefix(out, "billing 0.") {
		t.Errorf("--version: exit code %d, %s", code, out)
	}
}

// The token goes with each message, in the header that the service reads.
func TestTokenIsShown(t *testing.T) {
	t.Parallel()
	cfg := kafkatest.Broker(t)
	if err := kafka.EnsureTopics(t.Context(), cfg, contract.TopicInventory); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	p := program(&out, &out)
	p.Env = map[string]string{"KAFKA_BROKERS": strings.Join(cfg.Brokers, ","), "ALTYN_TOKEN": "a.b.c"}
	if code := p.Run(t.Context(), []string{"inventory", "--order", exampleHold, "--status", "FAILED"}); code != exitDone {
		t.Fatalf("exit code %d, %s", code, out.String())
	}
	consumer, err := kafka.NewConsumer(cfg, "service", []string{contract.TopicInventory}, slog.New(slog.DiscardHandler),
		prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := consumer.Run(ctx, func(_ context.Context, messages []kafka.Message) error {
		if got := messages[0].Authorization; len(got) != 1 || got[0] != "Bearer a.b.c" {
			t.Errorf("the message shows %q", got)
		}
		cancel()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
