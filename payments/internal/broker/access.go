package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/actions"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// Record is a message of the broker with its sender, on the topics on which anybody writes. Its token is gone: it has
// been judged.
type Record struct {
	kafka.Message
	Who     identity.Identity
	Refused error // why it is not known who has sent it: a problem for the answer
}

// Access tells who has sent a message on a topic on which anybody writes.
type Access struct {
	tokens *bearer.Verifier
	log    *slog.Logger
	record func(context.Context, []actions.Action) error
}

// NewAccess returns the access of those whose tokens are valid. record keeps what operators do.
func NewAccess(tokens *bearer.Verifier, log *slog.Logger,
	record func(context.Context, []actions.Action) error) *Access {
	return &Access{tokens, log, record}
}

// Judge finds the sender of each message, by its token at the time at which the broker got the message. What an
// operator has sent on behalf of someone else is recorded first, once however often it is delivered. An error means
// that the senders cannot be told yet, because the keys of an issuer never came, or that the acts could not be
// recorded.
func (a *Access) Judge(ctx context.Context, messages []kafka.Message) ([]Record, error) {
	records := make([]Record, len(messages))
	var acts []actions.Action
	for i, m := range messages {
		record := &records[i]
		if record.Message = m; !contract.FromAnyone(m.Topic) || m.Unreadable != nil {
			continue
		}
		var operator identity.Identity
		record.Who, operator, record.Refused = a.judge(ctx, m)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(record.Refused, bearer.ErrNoKeys) {
			return nil, record.Refused
		}
		record.Authorization = nil
		if operator.Tenant == "" || record.Refused != nil {
			continue
		}
		act, err := actions.New(operator, actions.OnBehalf, m.Place(), "", record.Who)
		if err != nil {
			return nil, err
		}
		act.ID = contract.DerivedID(act.Action, uuid.Nil, fmt.Sprint(act.Object, m.Time.UnixNano()))
		acts = append(acts, act)
	}
	if len(acts) == 0 {
		return records, nil
	}
	return records, a.record(ctx, acts)
}

// judge returns the identity for which a message acts, and the operator who has sent it on its behalf, if one has.
func (a *Access) judge(ctx context.Context, m kafka.Message) (who, operator identity.Identity, err error) {
	at := m.Time
	if !m.Appended { // the writer's own word, which may be any
		at = time.Now()
	}
	who, err = a.tokens.Header(ctx, m.Authorization, at)
	if err != nil || !a.tokens.On() {
		return who, operator, err
	}
	behalf := m.Header(contract.IdentityHeader)
	if _, err := who.Reach(identity.Operator); err != nil || behalf == "" {
		return who, operator, nil
	}
	operator = who
	if err := json.Unmarshal([]byte(behalf), &who); err != nil {
		return identity.Identity{}, operator, contract.Invalid(contract.IdentityHeader, "%v", err)
	}
	a.log.WarnContext(ctx, "an operator has put a message back", "operator_tenant", operator.Tenant,
		"operator", operator.Subject, "tenant", who.Tenant, "subject", who.Subject, "scope", who.Scopes.String(),
		"topic", m.Topic, "partition", m.Partition, "offset", m.Offset)
	return who, operator, nil
}

// Dead returns the message as it becomes a dead letter. It names the sender, as far as known, so that an operator can
// put it back on the sender's behalf. What the sender has written there itself is left out.
func (r Record) Dead() kafka.Message {
	m := r.Message
	if !contract.FromAnyone(m.Topic) || m.Unreadable != nil {
		return m
	}
	m.Headers = slices.DeleteFunc(slices.Clone(m.Headers), func(h kafka.Header) bool {
		return h.Key == contract.IdentityHeader || strings.HasPrefix(h.Key, kafka.DeadLetterPrefix)
	})
	if r.Who != (identity.Identity{}) && r.Who != identity.Everyone {
		who, err := json.Marshal(r.Who)
		if err == nil { // it can always be encoded
			m.Headers = append(m.Headers, kafka.Header{Key: kafka.DeadLetterIdentity, Value: who})
		}
	}
	return m
}

// replies returns the topic for the replies to a command whose sender asks for this one. It must be one of the sender's
// tenant; where nobody is told apart it may be any. Otherwise it is ownReplies.
func replies(asked string, who identity.Identity) string {
	mine := contract.ReplyToPrefix + who.Tenant
	switch {
	case !strings.HasPrefix(asked, contract.ReplyToPrefix), !kafka.ValidTopic(asked), who.Tenant == "":
	case who == identity.Everyone, asked == mine, strings.HasPrefix(asked, mine+"."):
		return asked
	}
	return ownReplies(who)
}

// ownReplies returns the topic for the replies to a sender who asks for none. That of the default tenant also serves
// those whose own does not exist, and senders that are not known.
func ownReplies(who identity.Identity) string {
	if who.Tenant == "" || who.Tenant == identity.DefaultTenant {
		return contract.TopicReplies
	}
	return contract.ReplyToPrefix + who.Tenant
}
