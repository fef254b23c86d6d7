package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/explain"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
)

// explainSettings are those of the command explain.
type explainSettings struct {
	IDs     []string `args:"ID"`
	Gateway string   `env:"ALTYN_GATEWAY" flag:"gateway" value:"URL" default:"http://127.0.0.1:8000" help:"address of the gateway"`
	JSON    bool     `flag:"json" help:"print the document as it is"`
	Token   bearer.Credential
}

func explainCommand(out io.Writer) config.Command {
	c := config.NewCommand("explain", "say where an order or an operation is, why, and what to do next",
		func(_ context.Context, s explainSettings) error { return s.explain(out) })
	c.About = "It asks the gateway for the explanation of an order with this ID, or else of an operation."
	c.Examples = []string{"altyn explain 0198c5a8-0d3c-7b0f-8a52-5c1d2e3f4a5b"}
	return c
}

func (s explainSettings) explain(out io.Writer) error {
	id, err := s.parse()
	if err != nil {
		return err
	}
	token, err := s.Token.Read()
	if err != nil {
		return err
	}
	client := load.New(strings.TrimSuffix(s.Gateway, "/")).As(token)
	defer client.Close()
	text, err := ask(client, id)
	if err != nil {
		return err
	}
	var e explain.Explanation
	if err := json.Unmarshal(text, &e); err != nil {
		return config.Unseen{Err: fmt.Errorf("the answer is no explanation: %w", err)}
	}
	if s.JSON {
		_, err = fmt.Fprintf(out, "%s\n", text)
	} else {
		err = show(out, e)
	}
	if err != nil {
		return err
	}
	return verdict(e)
}

// parse reads the one argument.
func (s explainSettings) parse() (uuid.UUID, error) {
	if len(s.IDs) != 1 {
		return uuid.Nil, config.Invalid("ID", "must be one ID of an order or operation")
	}
	id, err := contract.ParseID(s.IDs[0])
	if err != nil {
		return uuid.Nil, config.Invalid("ID", "must be a UUID")
	}
	return id, nil
}

// ask asks for an order, and where there is none that may be seen, for an operation.
func ask(client *load.Client, id uuid.UUID) (text []byte, err error) {
	var answer *load.StatusError
	var first error
	for _, path := range []string{load.OrdersPath + "/", "/api/v1/operations/"} {
		err := client.Call("GET", path+id.String()+"/explain", "", nil, &text)
		if err == nil {
			return text, nil
		}
		if !errors.As(err, &answer) || answer.Status != http.StatusNotFound && answer.Status != http.StatusForbidden {
			return nil, config.Unseen{Err: fmt.Errorf("ask the gateway: %w", err)}
		}
		if answer.Status == http.StatusForbidden && first == nil {
			first = config.Unseen{Err: err}
		}
	}
	if first != nil {
		return nil, first
	}
	return nil, fmt.Errorf("there is no order and no operation %s, or not for this token", id)
}

// verdict is the exit code for what was found.
func verdict(e explain.Explanation) error {
	if e.Stuck {
		return config.Exit(1)
	}
	for _, gap := range e.Missing {
		if gap.Away {
			return config.Exit(2)
		}
	}
	return nil
}

// show prints an explanation for people.
func show(out io.Writer, e explain.Explanation) error {
	fmt.Fprintf(out, "%s\n\nStatus: %s\n", e.Summary, e.Status)
	if e.TraceID != "" {
		fmt.Fprintf(out, "Trace:  %s\n", e.TraceID)
	}
	for _, gap := range e.Missing {
		fmt.Fprintf(out, "Not looked at: %s: %s\n", gap.What, gap.Why)
	}
	fmt.Fprint(out, "\nWhat to do next\n")
	for _, what := range e.Next {
		fmt.Fprintf(out, "  - %s\n", what)
	}
	fmt.Fprint(out, "\nWhat has happened\n")
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range e.Timeline {
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", s.At, s.Service, s.What, s.Detail)
	}
	return table.Flush() // an error of writing stays with the writer
}
