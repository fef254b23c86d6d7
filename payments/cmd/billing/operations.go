package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
)

const statusError = "error"

// id is a UUID as a flag; zero where it is not given.
type id uuid.UUID

// UnmarshalText reads a UUID.
func (i *id) UnmarshalText(text []byte) error {
	parsed, err := contract.ParseID(string(text))
	if err == nil && parsed == uuid.Nil {
		err = contract.ErrID
	}
	*i = id(parsed)
	return err
}

// MarshalText writes the UUID.
func (i id) MarshalText() ([]byte, error) { return uuid.UUID(i).MarshalText() }

// amount is an amount as a flag. What is wrong with it is for the service to say, but for an empty one, as of a
// variable that is not set: left out, it may mean all there is.
type amount string

// UnmarshalText refuses an empty amount.
func (a *amount) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("must not be empty")
	}
	*a = amount(text)
	return nil
}

// The flags of the commands. Their JSON is the message that they make, without its operation.
type (
	// sending is what all commands have in common.
	sending struct {
		CommandID id         `json:"command_id,omitzero" flag:"command-id" value:"ID" help:"of the command (default: a fresh one)"`
		JSON      bool       `json:"-" flag:"json" help:"print the reply in one line, as it came"`
		Timeout   timeout    `json:"-" flag:"timeout" value:"DURATION" default:"10s" help:"how long to wait for a reply"`
		Broker    connection `json:"-"`
	}
	// texts are those that an operation keeps.
	texts struct {
		Reference   string `json:"reference" flag:"reference" help:"your own ID of it, kept and returned"`
		Description string `json:"description" flag:"description" help:"for people"`
	}
	// value is an amount of a currency.
	value struct {
		Amount   amount `json:"amount" flag:"amount" value:"AMOUNT" required:"true" help:"a decimal number such as 2500.00"`
		Currency string `json:"currency" flag:"currency" value:"CODE" required:"true" help:"the currency, such as USD, RUB, EUR or USDT"`
	}
	newAccount struct {
		ID        id     `json:"id,omitzero" flag:"id" value:"ID" help:"of the new account (default: the service makes one)"`
		Owner     string `json:"owner" flag:"owner" value:"NAME" help:"whose account it is"`
		Reference string `json:"reference" flag:"reference" help:"your own ID of it, kept and returned"`
		sending
	}
	movement struct {
		Account id `json:"account_id" flag:"account" value:"ID" required:"true" help:"the account"`
		value
		texts
		sending
	}
	transfer struct {
		From id `json:"from_account_id" flag:"from" value:"ID" required:"true" help:"the account that pays"`
		To   id `json:"to_account_id" flag:"to" value:"ID" required:"true" help:"the account that is paid"`
		value
		texts
		sending
	}
	newHold struct {
		movement
		ExpiresIn string `json:"expires_in" flag:"expires-in" value:"DURATION" help:"until it is released, such as 15m (default 7 days)"`
	}
	capture struct {
		release
		Amount amount `json:"amount,omitempty" flag:"amount" value:"AMOUNT" help:"a decimal number such as 2500.00 (default: all of it)"`
	}
	release struct {
		Hold id `json:"hold_id" flag:"hold" value:"ID" required:"true" help:"the hold: the operation_id in the reply to the command hold"`
		texts
		sending
	}
	cancellation struct {
		Operation id     `json:"operation_id" flag:"operation" value:"ID" required:"true" help:"its id in the list of the account's operations"`
		Reason    string `json:"reason" flag:"reason" help:"why; it is kept as the operation's note"`
		sending
	}
	balanceQuery struct {
		Account id `json:"account_id" flag:"account" value:"ID" required:"true" help:"the account"`
		sending
	}
)

func (s sending) options() sending { return s }

const (
	exampleA    = "019b3c5e-7a40-7c4e-8d7c-6a1f0e9f2b11"
	exampleB    = "019b3c5e-7a52-7d0a-9b6e-0f6f8f1c2d22"
	exampleHold = "6f0c1d5e-6f7a-5c3b-9d2e-1a2b3c4d5e6f"
)

// operations are the commands of the billing core.
func operations(t terminal) []config.Command {
	return []config.Command{
		operation[newAccount](t, "create-account", "open an account",
			"An account holds any number of currencies. It is empty until money is deposited or transferred to it.",
			"--owner alice", "--owner bob --reference customer-42", "--id "+exampleA),
		operation[movement](t, "deposit", "put money on an account",
			"The reply's body is the operation, which is kept for good under its id.",
			"--account "+exampleA+" --amount 777 --currency RUB",
			"--account "+exampleA+" --amount 0.000001 --currency USDT --reference invoice-7",
			"--account "+exampleA+" --amount 777 --currency RUB --command-id 019b3c61-4b80-7e5f-8a9b-4c6d8e0f1a44"),
		operation[movement](t, contract.Invoice, "another name of deposit",
			"The same as deposit, under a name that other systems use.",
			"--account "+exampleA+" --amount 777 --currency RUB --reference invoice-7"),
		operation[movement](t, "withdraw", "take money off an account",
			"It is refused with insufficient_funds where the account has less; what holds have set aside does not count.",
			"--account "+exampleA+" --amount 100.50 --currency RUB"),
		operation[transfer](t, "transfer", "move money from one account to another",
			"Both sides change in one step or not at all.",
			"--from "+exampleA+" --to "+exampleB+" --amount 111 --currency RUB --description dinner"),
		operation[newHold](t, "hold", "set money aside for a later capture",
			"The amount moves from actual to frozen. The operation_id in the reply names the hold.",
			"--account "+exampleA+" --amount 60 --currency RUB",
			"--account "+exampleA+" --amount 60 --currency RUB --expires-in 15m"),
		operation[capture](t, "capture", "take what a hold has set aside",
			"All of it, or --amount, and the rest is released.",
			"--hold "+exampleHold, "--hold "+exampleHold+" --amount 25.00"),
		operation[release](t, "release", "give back what a hold has set aside",
			"The amount moves from frozen back to actual.", "--hold "+exampleHold),
		operation[cancellation](t, "cancel", "end what waits for money",
			"The operation ends in error, with the reason cancelled; what waited behind it goes on.",
			"--operation "+exampleHold, "--operation "+exampleHold+" --reason obsolete"),
		operation[balanceQuery](t, "balance", "ask what an account has",
			"The answer comes in turn: it counts all of the account's commands before it and none after it.",
			"--account "+exampleA, "--account "+exampleA+" --json | jq -r .body.actual_balance.RUB"),
	}
}

// operation makes a command that sends one message and prints the reply.
func operation[T interface{ options() sending }](
	t terminal, name, help, about string, examples ...string) config.Command {
	c := config.NewCommand(name, help, func(ctx context.Context, flags T) error {
		command := contract.Command{Operation: strings.ReplaceAll(name, "-", "_")}
		text, err := json.Marshal(flags)
		if err == nil {
			err = json.Unmarshal(text, &command)
		}
		if err != nil {
			return err
		}
		return t.send(ctx, command, flags.options())
	})
	c.Group, c.About, c.Examples = "Accounts and money", about, examples
	return c
}

// send sends a command and prints its reply.
func (t terminal) send(ctx context.Context, command contract.Command, s sending) error {
	fresh := newCommandID()
	command.CommandID = cmp.Or(command.CommandID, &fresh)
	ctx, cancel := s.Timeout.begin(ctx)
	defer cancel()
	client, err := dial(ctx, s.Broker, t.stderr)
	if err != nil {
		return err
	}
	defer client.close()
	reply, err := client.call(ctx, command)
	if err != nil {
		return err
	}
	text := bytes.NewBuffer(reply.raw)
	if !s.JSON {
		text = new(bytes.Buffer)
		if err := json.Indent(text, reply.raw, "", "  "); err != nil {
			return fmt.Errorf("the reply: %w", err)
		}
	}
	fmt.Fprintln(t.stdout, text)
	if reply.Status == statusError {
		return config.Exit(exitRefused)
	}
	return nil
}

func newCommandID() uuid.UUID { return uuid.Must(uuid.NewV7()) }
