package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
)

const statusError = "error"

// field is a field of a command as a flag.
type field struct {
	name     string
	help     string // begins with the name of its value in back quotes
	set      func(c *contract.Command, text string) error
	optional bool
}

// value is the name of the field's value.
func (f field) value() string {
	return strings.Split(f.help, "`")[1]
}

// id makes a field of a UUID.
func id(name, help string, to func(c *contract.Command) **uuid.UUID) field {
	return field{name: name, help: help, set: func(c *contract.Command, text string) error {
		parsed, err := contract.ParseID(text)
		if err != nil {
			return err
		}
		*to(c) = &parsed
		return nil
	}}
}

// text makes a field of any text. What is wrong with it is for the service to say.
func text(name, help string, to func(c *contract.Command) *string) field {
	return field{name: name, help: help, set: func(c *contract.Command, text string) error {
		*to(c) = text
		return nil
	}}
}

func optional(f field) field {
	f.optional = true
	return f
}

var (
	account = id("account", "`ID` the account", func(c *contract.Command) **uuid.UUID { return &c.AccountID })
	from    = id("from", "`ID` the account that pays", func(c *contract.Command) **uuid.UUID { return &c.FromAccountID })
	to      = id("to", "`ID` the account that is paid", func(c *contract.Command) **uuid.UUID { return &c.ToAccountID })
	hold    = id("hold", "`ID` the hold: the operation_id in the reply to the command hold",
		func(c *contract.Command) **uuid.UUID { return &c.HoldID })
	operationID = id("operation", "`ID` the operation: its id in the list of the account's operations",
		func(c *contract.Command) **uuid.UUID { return &c.OperationID })
	newID     = id("id", "`ID` of the new account (default: the service makes one)", func(c *contract.Command) **uuid.UUID { return &c.ID })
	commandID = id("command-id", "`ID` of the command (default: a fresh one)", func(c *contract.Command) **uuid.UUID { return &c.CommandID })
	amount    = notEmpty(text("amount", "`AMOUNT` a decimal number such as 2500.00, with at most the currency's digits",
		func(c *contract.Command) *string { return (*string)(&c.Amount) }))
	currency    = text("currency", "`CODE` the currency, such as USD, RUB, EUR or USDT", func(c *contract.Command) *string { return &c.Currency })
	owner       = text("owner", "`NAME` whose account it is", func(c *contract.Command) *string { return &c.Owner })
	expiry      = text("expires-in", "`DURATION` until it is released by itself, such as 15m (default 7 days)", func(c *contract.Command) *string { return &c.ExpiresIn })
	reason      = optional(text("reason", "`TEXT` why; it is kept as the operation's note", func(c *contract.Command) *string { return &c.Reason }))
	reference   = optional(text("reference", "`TEXT` your own ID of it, kept and returned", func(c *contract.Command) *string { return &c.Reference }))
	description = optional(text("description", "`TEXT` for people", func(c *contract.Command) *string { return &c.Description }))
)

// notEmpty refuses an empty value, as of a variable that is not set: left out, it may mean all there is.
func notEmpty(f field) field {
	set := f.set
	f.set = func(c *contract.Command, text string) error {
		if text == "" {
			return errors.New("must not be empty")
		}
		return set(c, text)
	}
	return f
}

// operation is a command that sends one message.
type operation struct {
	name, operation string // what it is called here and in the message
	summary, about  string
	fields          []field
	examples        []string
}

const (
	exampleA    = "019b3c5e-7a40-7c4e-8d7c-6a1f0e9f2b11"
	exampleB    = "019b3c5e-7a52-7d0a-9b6e-0f6f8f1c2d22"
	exampleHold = "6f0c1d5e-6f7a-5c3b-9d2e-1a2b3c4d5e6f"
)

// operations are the commands of the billing core.
func operations() []subcommand {
	var list []subcommand
	deposit := operation{fields: []field{account, amount, currency, reference, description}}
	for _, o := range []operation{
		{"create-account", "create_account", "open an account",
			"An account holds any number of currencies. It is empty until money is deposited or transferred to it.",
			[]field{optional(newID), optional(owner), reference},
			[]string{"--owner alice", "--owner bob --reference customer-42", "--id " + exampleA}},
		deposit.with("deposit", "put money on an account", "The reply's body is the operation, which is kept for good under its id.",
			"--account "+exampleA+" --amount 777 --currency RUB", "--account "+exampleA+" --amount 0.000001 --currency USDT --reference invoice-7",
			"--account "+exampleA+" --amount 777 --currency RUB --command-id 019b3c61-4b80-7e5f-8a9b-4c6d8e0f1a44"),
		deposit.with(contract.Invoice, "another name of deposit", "The same as deposit, under a name that other systems use.",
			"--account "+exampleA+" --amount 777 --currency RUB --reference invoice-7"),
		{"withdraw", "withdraw", "take money off an account", "It is refused with insufficient_funds where the account has less; what holds have set aside does not count.",
			[]field{account, amount, currency, reference, description},
			[]string{"--account " + exampleA + " --amount 100.50 --currency RUB"}},
		{"transfer", "transfer", "move money from one account to another", "Both sides change in one step or not at all.",
			[]field{from, to, amount, currency, reference, description},
			[]string{"--from " + exampleA + " --to " + exampleB + " --amount 111 --currency RUB --description dinner"}},
		{"hold", "hold", "set money aside for a later capture", "The amount moves from actual to frozen. The operation_id in the reply names the hold.",
			[]field{account, amount, currency, optional(expiry), reference, description},
			[]string{"--account " + exampleA + " --amount 60 --currency RUB", "--account " + exampleA + " --amount 60 --currency RUB --expires-in 15m"}},
		{"capture", "capture", "take what a hold has set aside", "All of it, or --amount, and the rest is released.",
			[]field{hold, optional(amount), reference, description},
			[]string{"--hold " + exampleHold, "--hold " + exampleHold + " --amount 25.00"}},
		{"release", "release", "give back what a hold has set aside", "The amount moves from frozen back to actual.",
			[]field{hold, reference, description}, []string{"--hold " + exampleHold}},
		{"cancel", "cancel", "end what waits for money", "The operation ends in error, with the reason cancelled; what waited behind it goes on.",
			[]field{operationID, reason}, []string{"--operation " + exampleHold, "--operation " + exampleHold + " --reason obsolete"}},
		{"balance", "balance", "ask what an account has", "The answer comes in turn: it counts all of the account's commands before it and none after it.",
			[]field{account}, []string{"--account " + exampleA, "--account " + exampleA + " --json | jq -r .body.actual_balance.RUB"}},
	} {
		list = append(list, o.subcommand())
	}
	return list
}

func (o operation) with(name, summary, about string, examples ...string) operation {
	o.name, o.operation, o.summary, o.about, o.examples = name, name, summary, about, examples
	return o
}

func (o operation) subcommand() subcommand {
	var usage []string
	for _, f := range o.fields {
		if !f.optional {
			usage = append(usage, "--"+f.name+" "+f.value())
		}
	}
	return subcommand{name: o.name, summary: o.summary, usage: strings.Join(usage, " "), about: o.about, examples: o.examples, define: o.define}
}

// maxTimeout bounds how long a reply is waited for.
const maxTimeout = time.Hour

func timeoutFlag(flags *flag.FlagSet, value time.Duration) *time.Duration {
	return flags.Duration("timeout", value, "`DURATION` how long to wait for a reply")
}

func checkTimeout(timeout time.Duration) error {
	if timeout <= 0 || timeout > maxTimeout {
		return wrong("--timeout must be more than 0 and at most %s", maxTimeout)
	}
	return nil
}

func (o operation) define(flags *flag.FlagSet) func(context.Context, *program, kafka.Config) error {
	fresh := newCommandID()
	command := contract.Command{Operation: o.operation, CommandID: &fresh}
	given := map[string]bool{}
	for _, f := range append(slices.Clone(o.fields), commandID) {
		flags.Func(f.name, f.help, func(text string) error {
			given[f.name] = text != ""
			return f.set(&command, text)
		})
	}
	raw := flags.Bool("json", false, "print the reply in one line, as it came")
	timeout := timeoutFlag(flags, 10*time.Second)
	return func(ctx context.Context, p *program, cfg kafka.Config) error {
		for _, f := range o.fields {
			if !f.optional && !given[f.name] {
				return wrong("--%s is missing", f.name)
			}
		}
		if err := checkTimeout(*timeout); err != nil {
			return err
		}
		ctx, cancel := within(ctx, *timeout)
		defer cancel()
		client, err := dial(ctx, cfg, p.stderr)
		if err != nil {
			return err
		}
		defer client.close()
		reply, err := client.call(ctx, command)
		if err != nil {
			return err
		}
		return p.print(reply, *raw)
	}
}

func (p *program) print(r reply, raw bool) error {
	text := bytes.NewBuffer(r.raw)
	if !raw {
		text = new(bytes.Buffer)
		if err := json.Indent(text, r.raw, "", "  "); err != nil {
			return fmt.Errorf("the reply: %w", err)
		}
	}
	fmt.Fprintln(p.stdout, text)
	if r.Status == statusError {
		return errRefused
	}
	return nil
}

func newCommandID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// key is what keeps commands in order: the account that is charged, or what is known in its place.
func key(c contract.Command) string {
	for _, id := range []*uuid.UUID{c.AccountID, c.FromAccountID, c.ID, c.HoldID, c.OperationID} {
		if id != nil {
			return id.String()
		}
	}
	return c.CommandID.String()
}

// decimal is an amount as commands carry it.
func decimal(c money.Currency, minor int64) money.Decimal { return money.Decimal(c.Format(minor)) }
