package service

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/actions"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/inspect"
)

// screen is how many lines are laid out at a time.
const screen = 1000

// backlog opens the backlog of the service's dead letters. The offsets of a consumer group say which of them were put
// back.
func (p Program) backlog(ctx context.Context) (*inspect.Backlog, error) {
	topics := make([]string, len(p.Reads))
	for i, topic := range p.Reads {
		topics[i] = contract.DeadLetter(topic)
	}
	return inspect.OpenBacklog(ctx, p.Config.Kafka, p.Name+".put-back", topics...)
}

// Only says which dead letters are listed.
type Only struct {
	About string `flag:"about" value:"ID" help:"only those that name this ID in their key, a header or their value, such as that of an order (default: all)"`
}

// covers reports whether a message is listed.
func (o Only) covers(m kafka.Message) bool {
	id := []byte(o.About)
	return bytes.Contains(m.Key, id) || bytes.Contains(m.Value, id) ||
		slices.ContainsFunc(m.Headers, func(h kafka.Header) bool { return bytes.Contains(h.Value, id) })
}

// deadLetters lists the dead letters that the broker still has.
func deadLetters(ctx context.Context, out io.Writer, program Program, only Only) error {
	backlog, err := program.backlog(ctx)
	if err != nil {
		return err
	}
	defer backlog.Close()
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	all, done := 0, 0
	err = backlog.Look(ctx, func(m kafka.Message, handled bool) {
		if !only.covers(m) {
			return
		}
		if all%screen == 0 {
			_ = table.Flush() // an error of writing is returned at the end
			fmt.Fprintln(table, "topic\tpartition\toffset\ttime\tsize\tput back\tkey\treason")
		}
		all++
		state := "no"
		if _, whole := kafka.Original(m); !whole {
			state = "never"
		} else if handled {
			done++
			state = "yes"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n",
			printable(m.Header("dlq_topic")), printable(m.Header("dlq_partition")), printable(m.Header("dlq_offset")),
			m.Time.UTC().Format(time.RFC3339), len(m.Value), state, printable(string(m.Key)), printable(m.Header("dlq_reason")))
	})
	if flushed := table.Flush(); err == nil {
		err = flushed
	}
	if err != nil {
		return err
	}
	if _, err = fmt.Fprintf(out, "%d dead letters, %d of them put back\n", all, done); err == nil {
		err = sayGone(out, backlog)
	}
	return err
}

// sayGone says how many dead letters can be put back no more.
func sayGone(out io.Writer, backlog *inspect.Backlog) (err error) {
	if n := backlog.Gone(); n > 0 {
		_, err = fmt.Fprintf(out, "%d more are gone without having been put back: the broker has deleted them\n", n)
	}
	return err
}

// printable turns a text of any origin into a cell of a table.
func printable(text string) string {
	if text == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// Return says who puts dead letters back. Where tokens are needed, those that anybody has written go back with the
// operator's own, and each for the one whose it was.
type Return struct {
	Operator Operator
	Tenant   string `flag:"tenant" value:"NAME" help:"tenant for which messages go back of which it is not known whose they are, such as those that came without a valid token"`
}

// Validate checks the tenant's name.
func (r Return) Validate() error {
	if r.Tenant == "" {
		return nil
	}
	if err := identity.CheckTenant(r.Tenant); err != nil {
		return config.Invalid("--tenant", "%v", err)
	}
	return nil
}

// sign gives a message that anybody may have written the operator's token, and says whose it is by its dead letter.
func (r Return) sign(original *kafka.Message, dead kafka.Message) error {
	original.Headers = slices.DeleteFunc(original.Headers, func(h kafka.Header) bool {
		return h.Key == contract.IdentityHeader
	})
	if r.Operator.Token == "" || !contract.FromAnyone(original.Topic) {
		return nil
	}
	whose := dead.Header(kafka.DeadLetterIdentity)
	if whose == "" && r.Tenant == "" {
		return fmt.Errorf("whose the message of %s at partition %d, offset %d is is not known: say so with --tenant",
			dead.Topic, dead.Partition, dead.Offset)
	}
	if whose == "" {
		text, err := json.Marshal(identity.Identity{Tenant: r.Tenant, Scopes: identity.Everyone.Scopes})
		if err != nil {
			return err
		}
		whose = string(text)
	}
	original.Headers = append(original.Headers,
		kafka.Header{Key: contract.AuthorizationHeader, Value: []byte("Bearer " + r.Operator.Token)},
		kafka.Header{Key: contract.IdentityHeader, Value: []byte(whose)})
	return nil
}

// putBack publishes the dead letters that were not put back before, on the topics that they came from.
func putBack(ctx context.Context, out io.Writer, program Program, settings Return) error {
	who, err := settings.Operator.Identify(ctx, program.Config.Auth, program.logger())
	if err != nil {
		return err
	}
	db, err := program.open()
	if err != nil {
		return err
	}
	defer db.Close()
	backlog, err := program.backlog(ctx)
	if err != nil {
		return err
	}
	defer backlog.Close()
	producer, err := kafka.NewProducer(program.Config.Kafka, program.logger(), prometheus.NewRegistry())
	if err != nil {
		return err
	}
	defer producer.Close()
	p := returner{out: out, Return: settings, who: who, db: db, producer: producer, total: backlog.Len()}
	err = backlog.Handle(ctx, p.handle)
	fmt.Fprintf(out, "%d messages put back, %d left out\n", p.done, p.leftOut)
	if err != nil {
		return fmt.Errorf("not all: %w; once more goes on from here", err)
	}
	return sayGone(out, backlog)
}

// returner puts dead letters back and counts them.
type returner struct {
	Return
	out           io.Writer
	who           identity.Identity // the operator
	db            *sqlx.DB
	producer      *kafka.Producer
	total         int64
	done, leftOut int
}

// handle is the kafka.Handler of dead letters. It names and leaves out what can never be put back; the rest is recorded
// before it is published.
func (r *returner) handle(ctx context.Context, dead []kafka.Message) error {
	var originals, sources []kafka.Message
	var acts []actions.Action
	for _, m := range dead {
		original, ok := kafka.Original(m)
		if !ok {
			r.leave(m, "it is not whole")
			continue
		}
		if err := r.sign(&original, m); err != nil {
			return err
		}
		act, err := actions.New(r.who, actions.PutBack, m.Place(), r.Operator.Reason, map[string]string{
			"key": string(m.Key), "reason": m.Header("dlq_reason"), "topic": m.Header("dlq_topic"),
			"partition": m.Header("dlq_partition"), "offset": m.Header("dlq_offset")})
		if err != nil {
			return err
		}
		originals, sources, acts = append(originals, original), append(sources, m), append(acts, act)
	}
	if err := actions.Record(ctx, r.db, acts); err != nil {
		return err
	}
	for len(originals) > 0 {
		var skipped, from []kafka.Message
		refused := 0
		for i, err := range r.producer.Produce(ctx, originals) {
			switch {
			case err == nil:
				r.done++
			case kafka.Permanent(err):
				refused++
				r.leave(sources[i], err.Error())
			case refused > 0: // skipped behind a refused message of its key
				skipped, from = append(skipped, originals[i]), append(from, sources[i])
			default:
				return err
			}
		}
		originals, sources = skipped, from
	}
	fmt.Fprintf(r.out, "%d of %d\n", r.done+r.leftOut, r.total)
	return nil
}

func (r *returner) leave(m kafka.Message, why string) {
	r.leftOut++
	fmt.Fprintf(r.out, "left out: %s, partition %d, offset %d (was %s, partition %s, offset %s): %s\n",
		m.Topic, m.Partition, m.Offset,
		printable(m.Header("dlq_topic")), printable(m.Header("dlq_partition")), printable(m.Header("dlq_offset")), why)
}
