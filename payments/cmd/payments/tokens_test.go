package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/inspect"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/issuer"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
)

// setupTokens is the service with AUTH=jwt. What is logged from now on is in the file.
func setupTokens(t *testing.T) (*bundle, *issuer.Issuer) {
	t.Helper()
	b, from := setup(t), issuer.New(t)
	b.Settings.Auth = bearer.Config{Auth: bearer.JWT, Issuers: []string{from.URL}, Audiences: []string{issuer.Audience},
		TenantClaim: "tenant"}
	b.Settings.Telemetry.LogLevel = slog.LevelDebug
	return b, from
}

// with adds the header authorization, once for each value.
func with(m kafka.Message, values ...string) kafka.Message {
	for _, value := range values {
		m.Headers = append(m.Headers, kafka.Header{Key: contract.AuthorizationHeader, Value: []byte(value)})
	}
	return m
}

// command is a command with an ID of its own.
func command(id uuid.UUID, fields string, headers ...kafka.Header) kafka.Message {
	return kafka.Message{Topic: contract.TopicCommands, Headers: headers,
		Value: fmt.Appendf(nil, `{"command_id": "%s", %s}`, id, fields)}
}

// A command does what its token allows, and is answered 401 or 403 otherwise, by its scope in the one table. What may
// not be said of goods is a dead letter with the reason.
func TestCommandsNeedTokens(t *testing.T) {
	b, from := setupTokens(t)
	b.Start("all")
	token := func(scope string) string { return "Bearer " + from.Token("shop", "till", scope) }
	account := uuid.New()
	want := map[uuid.UUID]string{}
	send := func(code int, reason, fields string, values ...string) {
		id := uuid.New()
		want[id] = fmt.Sprint(code, " ", reason)
		b.Produce(with(command(id, fields), values...))
	}
	open := fmt.Sprintf(`"operation": "create_account", "id": "%s"`, account)
	deposit := fmt.Sprintf(`"operation": "deposit", "account_id": "%s", "amount": "5.00", "currency": "RUB"`, account)
	withdraw := strings.Replace(deposit, "deposit", "withdraw", 1)
	balance := fmt.Sprintf(`"operation": "balance", "account_id": "%s"`, account)
	send(401, "unauthenticated", open)
	send(401, "unauthenticated", open, "Bearer nonsense")
	send(401, "unauthenticated", open, token("accounts:write"), token("accounts:write"))
	send(403, "insufficient_scope", open, token("accounts:read money:in"))
	send(403, "insufficient_scope", open, token("operator"))
	b.Replies(len(want), contract.TopicReplies)
	send(201, "", open, token("accounts:write"))
	b.Replies(len(want), contract.TopicReplies)
	send(403, "insufficient_scope", deposit, token("money:out accounts:write"))
	send(201, "", deposit, token("money:in"))
	send(403, "insufficient_scope", withdraw, token("money:in"))
	send(403, "insufficient_scope", balance, token("money:in money:out"))
	send(200, "", balance, token("accounts:read"))
	send(404, "account_not_found", deposit, "Bearer "+from.Token("other", "till", "money:in"))
	for _, reply := range b.Replies(len(want), contract.TopicReplies) {
		if got := fmt.Sprint(reply.Code, " ", reply.Reason); reply.CommandID == nil || got != want[*reply.CommandID] {
			t.Errorf("%v is answered %s %s, want %s", reply.CommandID, got, reply.Detail, want[*reply.CommandID])
		}
	}
	b.Until(2, `SELECT count(*) FROM operations WHERE tenant = 'shop' AND subject = 'till' AND command_id IS NOT NULL`)

	order := uuid.New()
	b.Produce(goods(order, contract.InventoryCompleted),
		with(goods(order, contract.InventoryCompleted), token("money:in")),
		with(goods(order, contract.InventoryCompleted), token("inventory:write")))
	var reasons []string
	for _, m := range b.Consume(contract.DeadLetter(contract.TopicInventory),
		func(m []kafka.Message) bool { return len(m) >= 2 }) {
		reasons = append(reasons, m.Header("dlq_reason"))
	}
	if text := strings.Join(reasons, "\n"); !strings.Contains(text, "a token is needed") ||
		!strings.Contains(text, "lacks the scope inventory:write") {
		t.Errorf("the dead letters' reasons are %q", reasons)
	}
	b.Until(1, `SELECT count(*) FROM inventory WHERE order_id = $1`, order)

	// An operator puts both back: that of nobody for a tenant of the operator's choice, the other for who had sent it,
	// who still may not.
	line := service.New(name, about, program)
	line.Env = b.environment()
	line.Env["AUTH"], line.Env["AUTH_ISSUER"], line.Env["AUTH_AUDIENCE"] = "jwt", from.URL, issuer.Audience
	if code := line.Run(t.Context(), []string{"put-back", "--tenant", "shop"}); code != 2 {
		t.Errorf("without a token put-back ends with %d", code)
	}
	line.Env["ALTYN_TOKEN"] = from.Token("staff", "olga", "money:in")
	if code := line.Run(t.Context(), []string{"put-back", "--tenant", "shop"}); code != 1 {
		t.Errorf("with a token of somebody else put-back ends with %d", code)
	}
	line.Env["ALTYN_TOKEN"] = from.Token("staff", "olga", "operator")
	if code := line.Run(t.Context(), []string{"put-back"}); code != 1 {
		t.Errorf("without a tenant put-back ends with %d", code)
	}
	if code := line.Run(t.Context(), []string{"put-back", "--tenant", "shop",
		"--reason", "agreed with the shop"}); code != 0 {
		t.Errorf("put-back ends with %d", code)
	}
	dead := b.Consume(contract.DeadLetter(contract.TopicInventory), func(m []kafka.Message) bool { return len(m) >= 3 })
	if len(dead) != 3 || !strings.Contains(dead[2].Header("dlq_reason"), "inventory:write") {
		t.Errorf("after that there are the dead letters %+v", dead)
	}
	// Who put back what, and for whom it came back.
	b.Until(2, `SELECT count(*) FROM admin_actions WHERE tenant = 'staff' AND subject = 'olga'
		AND action = 'dead_letter.put_back' AND reason = 'agreed with the shop' AND object LIKE 'inventory.dlq/%'`)
	b.Until(2, `SELECT count(*) FROM admin_actions WHERE tenant = 'staff' AND subject = 'olga'
		AND action = 'message.on_behalf' AND detail::json->>'tenant' = 'shop' AND object LIKE 'inventory/%'`)
	b.Until(4, `SELECT count(*) FROM admin_actions`)
}

// A tenant's replies come on a topic of its own, where there is one, whichever the command asks for.
func TestRepliesComeOnTheTenantsTopic(t *testing.T) {
	b, from := setupTokens(t)
	if err := kafka.EnsureTopics(t.Context(), b.broker, "billing.replies.shop", "billing.replies.shop.till"); err != nil {
		t.Fatal(err)
	}
	b.Start("all")
	send := func(tenant string, asked ...string) string {
		id := uuid.New()
		var headers []kafka.Header
		for _, topic := range asked {
			headers = append(headers, kafka.Header{Key: contract.ReplyToHeader, Value: []byte(topic)})
		}
		b.Produce(with(command(id, `"operation": "create_account"`, headers...),
			"Bearer "+from.Token(tenant, "till", "accounts:write")))
		return id.String()
	}
	want := map[string][]string{
		"billing.replies.shop": {send("shop"), send("shop", "billing.replies.shop.nowhere"),
			send("shop", "billing.replies"), send("shop", "billing.replies.other")},
		"billing.replies.shop.till": {send("shop", "billing.replies.shop.till")},
		"billing.replies":           {send("default"), send("other"), send("other", "billing.replies.other.till")},
	}
	for topic, commands := range want {
		var got []string
		for _, reply := range b.Replies(len(commands), topic) {
			got = append(got, reply.CommandID.String())
		}
		slices.Sort(got)
		slices.Sort(commands)
		if !slices.Equal(got, commands) {
			t.Errorf("on %s there are the replies to %v, want %v", topic, got, commands)
		}
	}
}

// While the keys of an issuer have never come, what it says of goods and commands waits, each on its topic, and orders
// are settled meanwhile; once the keys come, all of it is done.
func TestOrdersDoNotWaitForAnIssuer(t *testing.T) {
	b, from := setupTokens(t)
	from.Away(true)
	b.Start("all")
	account := uuid.New()
	token := "Bearer " + from.Token("default", "till", "accounts:write inventory:write")
	waiting := paymentstest.Order(account, "1.00")
	waiting.AwaitInventory = true
	b.Produce(with(command(uuid.New(), fmt.Sprintf(`"operation": "create_account", "id": "%s"`, account)), token),
		with(goods(waiting.OrderID, contract.InventoryCompleted), token))
	for range 3 { // each after the one before was settled
		b.Place(paymentstest.Order(account, "1.00"), "failed") // nobody could open the account yet
	}
	b.Until(0, `SELECT count(*) FROM accounts`)
	from.Away(false)
	if replies := b.Replies(1, contract.TopicReplies); len(replies) != 1 || replies[0].Code != 201 {
		t.Errorf("the replies are %+v", replies)
	}
	b.Place(waiting, "failed") // the account has no money
	b.Until(1, `SELECT count(*) FROM inventory WHERE joined_at IS NOT NULL`)
}

// No token is anywhere but on the topic on which it came: in no table, on no other topic and in no line of the log,
// whatever it came with.
func TestTokensAreNotKept(t *testing.T) {
	path := t.TempDir() + "/log"
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b, from := setupTokens(t)
	b.Program.Log = file
	_, stop := b.Start("all")
	account := uuid.New()
	valid := from.Token("shop", "till", "accounts:write accounts:read money:in money:out inventory:write")
	lapsed := from.Mint(issuer.Claims{"tenant": "shop", "exp": int64(1)}, nil, from.Key())
	// The account's queue stands still from here on, so that commands wait and are repeated.
	if _, err := b.Owner.ExecContext(t.Context(), `
		WITH m AS (
			INSERT INTO inbox (id, lane, account_id, kind, payload, stopped) VALUES ($1, $2, $1, 'deposit', '{}', true)
		)
		INSERT INTO inbox_stops (account_id, lane, message_id, attempts, reason) VALUES ($1, $2, $1, 8, 'test')`,
		account, contract.Lane(account)); err != nil {
		t.Fatal(err)
	}
	b.controls.Refuse(contract.DeadLetter(contract.TopicCommands), kafkatest.InvalidRecord, -1) // they are parked
	commands, inventories := 0, 0
	for _, token := range []string{valid, lapsed, valid[:len(valid)-4] + "AAAA"} {
		for _, value := range []string{"Bearer " + token, "bearer " + token, token, "Basic " + token} {
			for _, target := range []uuid.UUID{account, uuid.New()} {
				for _, operation := range contract.Operations() {
					id := uuid.New()
					m := with(command(id, fmt.Sprintf(`"operation": %q, "account_id": %q, "amount": "1.00", "currency": "RUB"`,
						operation, target), kafka.Header{Key: contract.ReplyToHeader, Value: []byte("billing.replies.shop")}), value)
					b.Produce(m, m)
					commands += 2
				}
			}
			b.Produce(with(kafka.Message{Topic: contract.TopicCommands, Value: []byte("nonsense")}, value),
				with(kafka.Message{Topic: contract.TopicOrders, Value: []byte("nonsense")}, value),
				with(kafka.Message{Topic: contract.TopicInventory, Value: []byte("nonsense")}, value),
				with(goods(uuid.New(), contract.InventoryCompleted), value, value),
				with(paymentstest.Placed(paymentstest.Order(account, "1.00")), value))
			inventories += 2
		}
	}
	b.Until(12, `SELECT count(*) FROM inbox_stops WHERE message_id <> $1`, account)
	b.Consume(contract.DeadLetter(contract.TopicInventory), func(m []kafka.Message) bool { return len(m) >= inventories })
	b.Consume(contract.DeadLetter(contract.TopicOrders), func(m []kafka.Message) bool { return len(m) >= 12 })
	b.Consume(contract.TopicReplies, func(m []kafka.Message) bool { return len(m) >= commands/4 })
	needles := slices.Concat(strings.Split(valid, ".")[1:], strings.Split(lapsed, ".")[1:])
	for _, topic := range contract.Topics() {
		if topic == contract.TopicCommands || topic == contract.TopicInventory || topic == contract.TopicOrders {
			continue // where they came
		}
		backlog, err := inspect.OpenBacklog(t.Context(), b.broker, "search", topic)
		if err != nil {
			t.Fatal(err)
		}
		if err := backlog.Look(t.Context(), func(m kafka.Message, _ bool) {
			text, err := json.Marshal(m.Headers)
			if err != nil {
				t.Fatal(err)
			}
			text = append(append(text, m.Value...), m.Key...)
			for _, h := range m.Headers {
				text = append(text, h.Value...)
			}
			if len(m.Authorization) > 0 {
				t.Errorf("on %s: a header authorization", topic)
			}
			search(t, topic, text, needles)
		}); err != nil {
			t.Fatal(err)
		}
		backlog.Close()
	}
	rows := 0
	for _, table := range b.tables() {
		texts := b.rows(table)
		rows += len(texts)
		search(t, table, []byte(strings.Join(texts, "\n")), needles)
	}
	stop()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	search(t, "the log", text, needles)
	if rows < commands/4 || bytes.Count(text, []byte("\n")) < 12 {
		t.Errorf("only %d rows and the log\n%s", rows, text)
	}
}

// tables are those of the service, and rows what is in one of them, as texts.
func (b *bundle) tables() (tables []string) {
	b.Helper()
	if err := b.Owner.SelectContext(b.Context(), &tables, `
		SELECT quote_ident(table_name) FROM information_schema.tables
		WHERE table_schema = 'public' AND table_type = 'BASE TABLE'`); err != nil || len(tables) < 10 {
		b.Fatal(err, tables)
	}
	return tables
}

func (b *bundle) rows(table string) (rows []string) {
	b.Helper()
	if err := b.Owner.SelectContext(b.Context(), &rows, `SELECT convert_from(convert_to(r::text, 'UTF8'), 'UTF8')
		FROM `+table+` AS r`); err != nil {
		b.Fatal(err)
	}
	return rows
}

// search expects none of the needles in a text, as it is and in base64, as bytes are stored in JSON.
func search(t *testing.T, where string, text []byte, needles []string) {
	t.Helper()
	for _, needle := range needles {
		forms := []string{needle}
		for shift := range 3 { // each of base64's alignments
			inner := base64.StdEncoding.EncodeToString(append(make([]byte, shift), needle...))
			forms = append(forms, strings.TrimRight(inner, "=")[4:len(inner)-4])
		}
		for _, form := range forms {
			if bytes.Contains(text, []byte(form)) {
				t.Errorf("%s has a token: %.60s…", where, form)
			}
		}
	}
}
