package ledger

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/identity"
)

// Request is one accepted message: a command in its envelope.
type Request struct {
	ID          uuid.UUID       // becomes the operation's
	Seq         int64           // arrival number: an account's requests are applied in this order
	Lane        int16           // the lane of AccountID
	AccountID   uuid.UUID       // whose queue the request is in: who pays, or who receives a deposit
	Fingerprint uuid.NullUUID   // tells other requests under the same ID apart; set where the request came with a key
	ReceivedAt  time.Time       // by the database's clock
	PublishedAt time.Time       // when the broker got it; zero where it did not come from one
	Traceparent string          // is passed on to the events that follow
	By          identity.Reach  // what the one who asks reaches; see Strange
	Subject     string          // who asks: the sub of the token; "" where nobody is told apart
	Key         string          // the client's idempotency key, of which the ID was made; a command's is its CommandID
	Discarded   bool            // an operator gave it up: it ends in error, whatever it asks for
	CommandID   uuid.UUID       // the client's own ID of a command
	Reply       json.RawMessage // how the sender wants to be answered, in its own form; nil if nobody waits for a reply
	Command     Command
}

// Command is what a request asks for. Each kind has a type, in a file of its own, with all that the book must know of
// it. Amounts are in minor units and positive.
type Command interface {
	// kind is the command's name in JSON and in the database.
	kind() Kind
	// needs adds the accounts and balances that the command may touch. What it references is in the book by then.
	needs(b *Book, r Request, n *Needs)
}

// What a command may have beside.
type (
	// A referring command names the stored rows that it looks up.
	referring interface{ references(r Request) References }
	// A recorded command becomes an operation; this is what the record says of the command.
	recorded interface{ operation() Operation }
	// A settling command takes effect at once: settle returns why it cannot, "" is success.
	settling interface {
		recorded
		settle(b *Book, op *Operation, r Request) Reason
	}
	// An applying command takes effect in another way; it returns the operation that this makes, if any.
	applying interface {
		apply(b *Book, r Request) *Operation
	}
)

// Kind is what a command does, as JSON and the database name it.
type Kind string

// ErrKind says that there is no such kind of request. A later version may have it.
var ErrKind = errors.New("unknown kind of request")

// traits are what is known of a kind without a command at hand.
type traits struct {
	decode    func(payload []byte) (Command, error)
	operation bool // clients see an operation of this kind
	internal  bool // no client asks for it
}

// kinds is the table of all commands.
var kinds = map[Kind]traits{
	KindCreateAccount:   {decode: decode[CreateAccount], operation: true},
	KindDeposit:         {decode: decode[Deposit], operation: true},
	KindWithdrawal:      {decode: decode[Withdrawal], operation: true},
	KindTransfer:        {decode: decode[Transfer], operation: true},
	KindHoldFunds:       {decode: decode[HoldFunds], operation: true},
	KindCapture:         {decode: decode[Capture], operation: true},
	KindRelease:         {decode: decode[Release], operation: true},
	KindPayment:         {decode: decode[Payment], operation: true},
	KindConfirm:         {decode: decode[Confirm], operation: true},
	KindReject:          {decode: decode[Reject], operation: true},
	KindRefund:          {decode: decode[Refund], operation: true},
	KindCancel:          {decode: decode[Cancel], internal: true},
	KindInventory:       {decode: decode[Inventory], internal: true},
	KindExpire:          {decode: decode[Expire], internal: true},
	KindResume:          {decode: decode[Resume], internal: true},
	KindCancelOperation: {decode: decode[CancelOperation]},
	KindBalanceQuery:    {decode: decode[BalanceQuery]},
	KindRefusal:         {decode: decode[Refusal]},
}

func decode[C Command](payload []byte) (Command, error) {
	var c C
	err := json.Unmarshal(payload, &c)
	return c, err
}

// Operations are the kinds of requests that clients see as operations.
func Operations() (visible []Kind) {
	for kind, traits := range kinds {
		if traits.operation {
			visible = append(visible, kind)
		}
	}
	slices.Sort(visible)
	return visible
}

// Discardable tells whether an operator may give up a request of this kind. What no client has asked for may not be
// given up: the money that it sets free would stay where it is.
func (k Kind) Discardable() bool { return !kinds[k].internal }

// Kind is the kind of the request's command.
func (r Request) Kind() Kind { return r.Command.kind() }

// References names the stored rows that a request is about. They are in the request's lane. The caller puts in what the
// database has of them before it calls Needs.
type References struct {
	Hold      uuid.UUID
	Order     uuid.UUID // a payment, by its order
	Wait      uuid.UUID // a request that waits
	Operation uuid.UUID
	Queue     Key // a queue for money whose head is to be served; the payments in it are put in too
}

// References names the stored rows that the request is about.
func (r Request) References() References {
	if c, ok := r.Command.(referring); ok {
		return c.references(r)
	}
	return References{}
}

// Needs is what requests touch beside their References.
type Needs struct {
	// Accounts are those whose existence and tenant matter; true if the owner and the reference matter too.
	Accounts map[uuid.UUID]bool
	// Opened are those of the accounts that the requests want to open.
	Opened map[uuid.UUID]bool
	// Balances are to be locked and loaded; true if the balance must be a row, since only a row can be locked.
	Balances map[Key]bool
	// Whole are the accounts whose balances are all needed, in whatever currency.
	Whole []uuid.UUID
}

// account adds an account whose existence matters.
func (n *Needs) account(id uuid.UUID) {
	if !n.Accounts[id] {
		n.Accounts[id] = false
	}
}

// opens adds an account that is to be opened.
func (n *Needs) opens(id uuid.UUID) {
	if n.Opened == nil {
		n.Opened = make(map[uuid.UUID]bool)
	}
	n.Accounts[id], n.Opened[id] = true, true
}

// takes adds a balance from which money is taken.
func (n *Needs) takes(key Key) {
	if !n.Balances[key] {
		n.Balances[key] = false
	}
}

// gives adds a balance that is given money.
func (n *Needs) gives(key Key) { n.Balances[key] = true }

// spends adds what a movement of money from one balance to another touches.
func (n *Needs) spends(from, to Key) {
	n.account(from.AccountID)
	n.takes(from)
	n.gives(to)
}

// Operation is the operation that the request becomes, as it stands before it takes effect; nil if it becomes none.
func (r Request) Operation() *Operation {
	if c, ok := r.Command.(recorded); ok {
		return r.record(c.operation())
	}
	return nil
}

// record adds to an operation what the envelope says.
func (r Request) record(op Operation) *Operation {
	op.ID, op.Lane, op.Seq = r.ID, r.Lane, r.Seq
	op.Tenant, op.AccountID, op.CommandID = r.By.Normal().Tenant, r.AccountID, r.CommandID
	op.Subject, op.Key, op.Fingerprint = r.Subject, r.Key, r.Fingerprint
	op.CreatedAt, op.PublishedAt = r.ReceivedAt, r.PublishedAt
	op.Status = Created
	return &op
}

// balance is the balance of the request's account in a currency.
func (r Request) balance(currency string) Key { return Key{r.AccountID, currency, r.Lane} }

// sender is the part of a stored request that is not its command's.
type sender struct {
	CommandID uuid.UUID       `json:"command_id,omitzero"`
	By        identity.Reach  `json:"by,omitzero"`
	Subject   string          `json:"subject,omitempty"`
	Key       string          `json:"key,omitempty"`
	Reply     json.RawMessage `json:"reply,omitempty"`
}

// senderNames are the names of a sender's fields, as they stand in JSON.
var senderNames = [][]byte{
	[]byte(`"command_id"`), []byte(`"by"`), []byte(`"subject"`), []byte(`"key"`), []byte(`"reply"`),
}

// MarshalJSON writes the stored form of a request, which Decode reads: the fields of its command and those of its
// sender, all in one object. The rest of the envelope has columns of its own.
func (r Request) MarshalJSON() ([]byte, error) {
	text, err := json.Marshal(r.Command)
	if err != nil || r.CommandID == uuid.Nil && r.Reply == nil && r.By.IsZero() && r.Subject == "" && r.Key == "" {
		return text, err
	}
	more, err := json.Marshal(sender{r.CommandID, r.By, r.Subject, r.Key, r.Reply})
	if err != nil || len(text) == len("{}") {
		return more, err
	}
	return append(append(text[:len(text)-1], ','), more[1:]...), nil
}

// Decode reads the command and its sender from what MarshalJSON wrote for a request of this kind.
func (r *Request) Decode(kind Kind, payload []byte) (err error) {
	traits, ok := kinds[kind]
	if !ok {
		return fmt.Errorf("%w: %q", ErrKind, kind)
	}
	if r.Command, err = traits.decode(payload); err != nil {
		return err
	}
	if !slices.ContainsFunc(senderNames, func(name []byte) bool { return bytes.Contains(payload, name) }) {
		return nil // as with every order of the default tenant
	}
	var s sender
	if err := json.Unmarshal(payload, &s); err != nil {
		return err
	}
	if s.CommandID == uuid.Nil && s.Reply != nil { // the version before kept it in the reply only
		var reply sender
		if err := json.Unmarshal(s.Reply, &reply); err != nil {
			return err
		}
		s.CommandID = reply.CommandID
	}
	r.CommandID, r.By, r.Subject, r.Key, r.Reply = s.CommandID, s.By, s.Subject, s.Key, s.Reply
	return nil
}

// Digest identifies what a request asks for: equal requests under one ID have equal digests, whichever way they came in
// and wherever their replies go. Fingerprints are digests and are stored for ever, so the JSON of a command must not
// change.
func (r Request) Digest() (uuid.UUID, error) {
	text, err := json.Marshal(r.Command)
	if err != nil {
		return uuid.Nil, fmt.Errorf("encode request: %w", err)
	}
	return uuid.NewSHA1(r.ID, append(text, r.Kind()...)), nil
}

// Reaches reports whether the client reaches the account of its request. It does not reach an account of another
// tenant, or of another owner than the one that it is restricted to.
func (b *Book) Reaches(r Request) bool { return b.reaches(r, r.AccountID) }

func (b *Book) reaches(r Request, account uuid.UUID) bool {
	a, ok := b.accounts[account]
	return ok && r.By.Covers(a.Tenant, a.Owner)
}

// Strange handles requests that name an account which they may not know of. Such an account is looked up like one that
// does not exist, so that it takes as long: all of it is added to the Needs, although the book has it. Strange returns
// the requests that are not about such an account. What no client asks for acts for the account's own tenant.
func (b *Book) Strange(requests []Request, n Needs) (others []Request) {
	others = requests
	for i, r := range requests {
		if c, ok := r.Command.(Transfer); ok && b.foreign(r, c.ToAccountID) {
			n.Accounts[c.ToAccountID] = true
		}
		if a, known := b.accounts[r.AccountID]; !known || !r.StrangeTo(a.Tenant, a.Owner) {
			if len(others) < len(requests) {
				others = append(others, r)
			}
			continue
		}
		if len(others) == len(requests) {
			others = append(make([]Request, 0, len(requests)), requests[:i]...)
		}
		if _, needed := n.Accounts[r.AccountID]; needed {
			n.Accounts[r.AccountID] = true
		}
	}
	return others
}

// StrangeTo reports whether a client asks for an account of this tenant and owner that it does not reach. Such a
// request ends as if the account did not exist, whatever else has happened to it.
func (r Request) StrangeTo(tenant, owner string) bool {
	return !kinds[r.Kind()].internal && !r.By.Covers(tenant, owner)
}

// foreign tells whether an account is known to be another tenant's than the request's.
func (b *Book) foreign(r Request, account uuid.UUID) bool {
	a, known := b.accounts[account]
	return known && !r.of(a.Tenant)
}

// of tells whether a request is of a tenant.
func (r Request) of(tenant string) bool { return sameTenant(r.By.Tenant, tenant) }

func sameTenant(a, b string) bool {
	return cmp.Or(a, identity.DefaultTenant) == cmp.Or(b, identity.DefaultTenant)
}
