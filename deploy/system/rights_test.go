package system

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// guarded is a stack on an Apache Kafka whose users have the rights of contract.Rights and no others.
type guarded struct {
	*bundle
	broker    *localkafka.Broker
	producers map[string]*kafka.Producer // by user
}

// shopReplies is where the replies to the shop's commands go.
const shopReplies = contract.ReplyToPrefix + contract.ShopUser

func setupGuarded(t *testing.T) *guarded {
	t.Helper()
	if err := localkafka.ApacheAvailable(t.Context()); err != nil {
		t.Skipf("THE RIGHTS OF THE BROKER'S USERS ARE NOT TESTED, which needs Apache Kafka (Java 17 and Maven): %v", err)
	}
	users := map[string]string{localkafka.Admin: "secret-of-admin"}
	for _, right := range contract.Rights() {
		users[right.User] = "secret-of-" + right.User
	}
	broker, err := localkafka.Start(t.Context(), localkafka.Options{Kind: localkafka.Apache, Users: users})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := broker.Stop(); err != nil {
			t.Error(err)
		}
	})
	g := &guarded{broker: broker, producers: map[string]*kafka.Producer{}}
	kfaketest.Grant(t, broker.Config(), contract.Rights()...)
	for _, program := range []string{stack.Orders, stack.Payments} {
		g.run(t, contract.OwnerUser, program, "topics")
	}
	kfaketest.Ensure(t, broker.Config(), shopReplies)
	services := stack.Instances(1, 1, 0)
	for i := range services {
		services[i].Env = append(services[i].Env, g.environment(services[i].Program)...)
	}
	g.bundle = setupOn(t, stack.Kafka{Running: []string{broker.Addr()}, Kind: localkafka.Apache}, services)
	return g
}

// environment is how a user reaches the broker.
func (g *guarded) environment(user string) []string {
	cfg := g.broker.As(user)
	return []string{"KAFKA_BROKERS=" + g.broker.Addr(), "KAFKA_SASL_MECHANISM=" + cfg.SASLMechanism,
		"KAFKA_SASL_USER=" + cfg.SASLUser, "KAFKA_SASL_PASSWORD=" + cfg.SASLPassword}
}

// run runs a command of a service as a user of the broker, and returns what it prints.
func (g *guarded) run(t *testing.T, user, program, command string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(binaries, program), command)
	cmd.Env = append(os.Environ(), g.environment(user)...)
	if g.bundle != nil { // what an operator does is recorded
		db, err := g.Database(program)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, "POSTGRES_HOST="+db.Host, fmt.Sprint("POSTGRES_PORT=", db.Port),
			"POSTGRES_SSLMODE="+db.SSLMode)
	}
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, command, err, output)
	}
	return string(output)
}

// write publishes a message as a user, once.
func (g *guarded) write(user string, m kafka.Message) error {
	g.Helper()
	if g.producers[user] == nil {
		g.producers[user] = kfaketest.Producer(g, g.broker.As(user))
	}
	return g.producers[user].Produce(g.Context(), []kafka.Message{m})[0]
}

// must publishes a message as a user who may.
func (g *guarded) must(user string, m kafka.Message) {
	g.Helper()
	if err := g.write(user, m); err != nil {
		g.Fatalf("%s writes on %s: %v", user, m.Topic, err)
	}
}

func (g *guarded) command(fields map[string]any, headers ...kafka.Header) kafka.Message {
	g.Helper()
	payload, err := json.Marshal(fields)
	if err != nil {
		g.Fatal(err)
	}
	return kafka.Message{Topic: contract.TopicCommands, Value: payload, Headers: headers}
}

func (g *guarded) goods(order uuid.UUID) kafka.Message {
	g.Helper()
	payload, err := json.Marshal(contract.Inventory{IdempotentKey: uuid.New(), OrderID: order,
		Status: contract.InventoryCompleted})
	if err != nil {
		g.Fatal(err)
	}
	return kafka.Message{Topic: contract.TopicInventory, Value: payload}
}

// deposit has the shop deposit money by a command, and reads the reply as the shop.
func (g *guarded) deposit(account uuid.UUID) {
	g.Helper()
	id := uuid.New()
	g.must(contract.ShopUser, g.command(map[string]any{"command_id": id, "operation": "deposit", "account_id": account,
		"amount": "1.00", "currency": "RUB"}, kafka.Header{Key: contract.ReplyToHeader, Value: []byte(shopReplies)}))
	consumer, err := kafka.NewConsumer(g.broker.As(contract.ShopUser), contract.ShopUser+"."+id.String(),
		[]string{shopReplies}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		g.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(g.Context(), time.Minute)
	defer cancel()
	code := 0
	if err := consumer.Run(ctx, func(_ context.Context, messages []kafka.Message) error {
		for _, m := range messages {
			var reply contract.Reply
			if err := json.Unmarshal(m.Value, &reply); err == nil && reply.CommandID != nil && *reply.CommandID == id {
				code = reply.Code
				cancel()
			}
		}
		return nil
	}); err != nil || code != 201 {
		g.Fatalf("the command is answered %d, %v", code, err)
	}
}

// works shows that an order with goods and a command go through, and that what cannot be read is put back.
func (g *guarded) works(account uuid.UUID) {
	g.Helper()
	g.deposit(account)
	var order load.Order
	if err := g.client.Call("POST", "/api/v1/orders", "", load.NewOrder{AccountID: account, Amount: "1.00",
		Currency: "RUB", AwaitInventory: true}, &order); err != nil {
		g.Fatal(err)
	}
	g.must(contract.WarehouseUser, g.goods(order.ID))
	if err := g.client.Call("GET", "/api/v1/orders/"+order.ID.String()+"?wait=30s", "", nil,
		&order); err != nil || order.Status != "paid" {
		g.Fatalf("the order is %+v, %v", order, err)
	}
}

// Each service, and everyone else at the broker, works with the rights of the table and does nothing beyond them. What
// a service loses of them it says.
func TestUsersOfTheBrokerHaveTheLeastRights(t *testing.T) {
	g := setupGuarded(t)
	account := g.accounts(1, "100.00")[0]
	g.works(account)

	nonsense := func(topic string) kafka.Message { return kafka.Message{Topic: topic, Value: []byte("nonsense")} }
	g.must(contract.ShopUser, nonsense(contract.TopicCommands))
	g.must(contract.WarehouseUser, nonsense(contract.TopicInventory))
	g.must(contract.OrdersUser, nonsense(contract.TopicOrders))
	g.must(contract.PaymentsUser, nonsense(contract.TopicPayments))
	for program, want := range map[string]string{
		stack.Orders: "\n1 messages put back, 0 left out\n", stack.Payments: "\n3 messages put back, 0 left out\n"} {
		wait.Until(t, "the dead letters of "+program+" are there", func() bool {
			return strings.Contains("\n"+g.run(t, contract.OperatorUser, program, "dead-letters"),
				want[:2]+" dead letters, 0 of them put back\n")
		})
		if said := g.run(t, contract.OperatorUser, program, "put-back"); !strings.Contains("\n"+said, want) {
			t.Errorf("%s put-back says %s", program, said)
		}
	}

	for _, user := range []string{contract.OrdersUser, contract.PaymentsUser, contract.ShopUser,
		contract.WarehouseUser, contract.OwnerUser, contract.OperatorUser} {
		for _, topic := range append(contract.Topics(), shopReplies) {
			err := g.write(user, kafka.Message{Topic: topic})
			if may := g.may(user, topic, "Write"); (err == nil) != may {
				t.Errorf("%s writes on %s: %v", user, topic, err)
			}
		}
	}
	g.takeAway(account)
	g.works(account)
}

// may tells whether the table lets a user do something with a topic.
func (g *guarded) may(user, topic, operation string) bool {
	return slices.ContainsFunc(contract.Rights(), func(right contract.Right) bool {
		return right.User == user && !right.Group && slices.Contains(right.Operations, operation) &&
			(right.Name == topic || right.Prefix && len(topic) > len(right.Name) && topic[:len(right.Name)] == right.Name)
	})
}

// takeAway takes each right to read and write from the services in turn, and then all others at once, has them need it,
// and waits until their logs tell of it.
func (g *guarded) takeAway(account uuid.UUID) {
	g.Helper()
	var others []contract.Right
	for _, right := range contract.Rights() {
		if right.User != contract.OrdersUser && right.User != contract.PaymentsUser {
			continue
		}
		rest := right
		rest.Operations = right.Operations[1:]
		if len(rest.Operations) > 0 {
			others = append(others, rest)
		}
		right.Operations = right.Operations[:1]
		g.without(account, []contract.Right{right}, "Authorization Failed")
	}
	g.without(account, others, "cannot be checked")
}

// without waits until the services' logs tell of each right that they lack.
func (g *guarded) without(account uuid.UUID, rights []contract.Right, tells string) {
	g.Helper()
	began := map[string]int{}
	for _, right := range rights {
		began[right.User] = len(g.log(right.User))
	}
	kfaketest.Revoke(g, g.broker.Config(), rights...)
	if err := wait.Within(3*time.Minute, 100*time.Millisecond, func() error {
		g.provoke(account)
		for _, right := range rights {
			text := g.log(right.User)
			if !slices.ContainsFunc(strings.Split(text[min(began[right.User], len(text)):], "\n"), func(line string) bool {
				return strings.Contains(line, tells) && strings.Contains(line, right.Name)
			}) {
				return fmt.Errorf("the log of %s does not tell that it lacks %+v", right.User, right)
			}
		}
		return nil
	}); err != nil {
		g.Error(err)
	}
	kfaketest.Grant(g, g.broker.Config(), rights...)
	if right := rights[0]; right.Operations[0] == "Read" { // a consumer tells of several outages of a kind once
		wait.Until(g, right.User+" reads again", func() bool {
			return strings.Contains(g.log(right.User)[began[right.User]:], "kafka consumer recovered")
		})
	}
}

func (g *guarded) log(part string) string {
	g.Helper()
	text, err := os.ReadFile(g.Part(part).Log)
	if err != nil {
		g.Fatal(err)
	}
	return string(text)
}

// provoke has the services use all of their rights.
func (g *guarded) provoke(account uuid.UUID) {
	g.Helper()
	g.place(account, "0.01", "")
	g.must(contract.ShopUser, g.command(map[string]any{"command_id": uuid.New(), "operation": "balance",
		"account_id": account}, kafka.Header{Key: contract.ReplyToHeader, Value: []byte(shopReplies)}))
	g.must(contract.ShopUser, g.command(map[string]any{"command_id": uuid.New(), "operation": "balance",
		"account_id": account}))
	g.must(contract.WarehouseUser, g.goods(uuid.New()))
	for _, topic := range []string{contract.TopicOrders, contract.TopicPayments, contract.TopicCommands,
		contract.TopicInventory} {
		g.must(contract.OperatorUser, kafka.Message{Topic: topic, Value: []byte("nonsense")})
	}
}
