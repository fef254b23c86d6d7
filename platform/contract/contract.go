// Package contract is what the services say to each other and to the outside over Kafka: topics, the lane of an
// account, and the JSON payloads of events and commands. It only ever grows: a field or a type that was published
// keeps its name and meaning. asyncapi.yaml beside this file documents it for other languages.
package contract

import (
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// The topics. The key of every message is the account ID as text, except on Inventory and Heads, whose messages name no
// account.
const (
	TopicOrders    = "orders"
	TopicPayments  = "payments"
	TopicInventory = "inventory"
	TopicCommands  = "billing.commands"
	TopicReplies   = "billing.replies"
	TopicHeads     = "ledger.heads"
)

// FromAnyone tells whether anybody writes on a topic, not only a service of Altyn. What comes there is judged by a
// token, at the time at which the broker got it; see AuthorizationHeader.
func FromAnyone(topic string) bool { return topic == TopicCommands || topic == TopicInventory }

// AuthorizationHeader is the header of a message of a topic FromAnyone with its token, as over HTTP: Bearer, a space
// and the token.
const AuthorizationHeader = "authorization"

// IdentityHeader is the header of a message that an operator puts back: whose message it is, as JSON. It counts only
// beside the token of an operator.
const IdentityHeader = "identity"

// DeadLetter returns the topic for messages of a topic that could not be read. Each has the reason in a header.
func DeadLetter(topic string) string { return topic + ".dlq" }

// Topics are all topics, except those that clients name for their replies.
func Topics() []string {
	return []string{
		TopicOrders, DeadLetter(TopicOrders), TopicPayments, DeadLetter(TopicPayments),
		TopicCommands, DeadLetter(TopicCommands), TopicReplies, TopicInventory, DeadLetter(TopicInventory), TopicHeads,
	}
}

// The event types, as in the header ce_type.
const (
	OrderPlacedType    = "order.placed"
	OrderCancelledType = "order.cancelled"

	PaymentCreatedType    = "payment.created"
	PaymentAuthorizedType = "payment.authorized"
	PaymentSucceededType  = "payment.succeeded"
	PaymentFailedType     = "payment.failed"
	PaymentCancelledType  = "payment.cancelled"
	PaymentRefundedType   = "payment.refunded"

	LedgerHeadType = "ledger.head"
)

// How an order's money is taken.
const (
	CaptureAutomatic = "automatic" // debited at once
	CaptureManual    = "manual"    // held until it is confirmed or rejected
)

// What happens to a request that the balance does not cover.
const (
	OnInsufficientReject = "reject" // it fails at once
	OnInsufficientWait   = "wait"   // it waits for money until its deadline
)

// The deadlines of requests whose clients gave none, counted from when they begin to wait.
const (
	InventoryExpiry = 15 * time.Minute   // of what waits for inventory
	FundsExpiry     = 24 * time.Hour     // of what waits for money
	HoldExpiry      = 7 * 24 * time.Hour // of a hold
)

// Bounds of free texts, in characters.
const (
	MaxDescription = 1000
	MaxReference   = 200
	MaxOwner       = 200
	MaxReason      = 200
)

// Order is the payload of order.placed. Amount is a decimal text with exactly the currency's number of digits.
type Order struct {
	OrderID        uuid.UUID `json:"order_id"`
	AccountID      uuid.UUID `json:"account_id"`
	Amount         string    `json:"amount"`
	Currency       string    `json:"currency"`
	Description    string    `json:"description,omitempty"`
	Reference      string    `json:"reference,omitempty"`
	Capture        string    `json:"capture"`
	AwaitInventory bool      `json:"await_inventory,omitempty"`
	OnInsufficient string    `json:"on_insufficient,omitempty"`
	CreatedAt      Time      `json:"created_at"`
	ExpiresAt      *Time     `json:"expires_at,omitempty"`
	// Owner, where it is there, restricts the order: unless the account has this owner, the payment fails as though there
	// were no such account.
	Owner string `json:"owner,omitempty"`
	// Repeated marks an event that is announced again, under the same ID, because no answer has come: payments publishes
	// the payment's present state again. A redelivery is not marked, and is not answered again.
	Repeated bool `json:"repeated,omitempty"`
}

// Cancellation is the payload of order.cancelled: the whole order as it was placed, so that a cancellation which
// overtakes the order leaves a complete payment, and why and when it was cancelled.
type Cancellation struct {
	Order
	Reason      string `json:"reason,omitempty"` // ReasonCancelled; earlier versions have what is now the Note here
	Note        string `json:"note,omitempty"`   // what the client said of it
	CancelledAt Time   `json:"cancelled_at"`
}

// ReasonCancelled is the reason of what was cancelled.
const ReasonCancelled = "cancelled"

// ReasonRestored is the reason, in an order's history, of a step that contradicts what was said before: payments was
// restored, and does not know of it any more.
const ReasonRestored = "restored"

// NoteOf returns what a client said of a cancellation, which earlier versions have as the reason.
func NoteOf(reason, note string) string {
	if note == "" && reason != ReasonCancelled {
		return reason
	}
	return note
}

// What the inventory system says of an order's goods. Anything else is ignored.
const (
	InventoryCompleted = "COMPLETED" // they are set aside: the payment settles
	InventoryFailed    = "FAILED"    // there are none: the payment fails
)

// Inventory is the payload of the topic inventory. The same IdempotentKey is the same message.
type Inventory struct {
	IdempotentKey uuid.UUID `json:"idempotent_key"`
	OrderID       uuid.UUID `json:"order_id"`
	Status        string    `json:"status"`
}

// The statuses of a payment.
const (
	PaymentCreated    = "created" // waits for inventory or money
	PaymentAuthorized = "authorized"
	PaymentSucceeded  = "succeeded"
	PaymentFailed     = "failed"
	PaymentCancelled  = "cancelled"
	PaymentRefunded   = "refunded"
)

// Reasons for which a payment is Created, and its order pending, for a while.
const (
	WaitingForFunds     = "waiting_for_funds"     // it waits for money until its deadline
	WaitingForInventory = "waiting_for_inventory" // it waits for word of the inventory until its deadline
)

// Payment is the payload of every event on the topic payments: the payment's whole state, with totals and never
// deltas. So a reader needs to remember only the highest Version it has seen, and may see an event any number of
// times.
type Payment struct {
	OrderID        uuid.UUID `json:"order_id"`
	AccountID      uuid.UUID `json:"account_id"`
	Amount         string    `json:"amount"`
	Currency       string    `json:"currency"`
	Capture        string    `json:"capture" enums:"automatic,manual"`
	Status         string    `json:"status" enums:"created,authorized,succeeded,failed,cancelled,refunded"`
	Reason         string    `json:"reason,omitempty"`
	Note           string    `json:"note,omitempty"` // what a client said of the cancellation, rejection or refund
	CapturedAmount string    `json:"captured_amount"`
	RefundedAmount string    `json:"refunded_amount"`
	Version        int64     `json:"version"`
	CreatedAt      Time      `json:"created_at"`
	UpdatedAt      Time      `json:"updated_at"`
} // @name Payment

// Epoch is how far the versions of events jump when the database of payments has been restored: an event's version is
// that of the payment, of which there are far fewer, plus the number of the epoch times Epoch. So what the restored
// database says of a payment counts more than anything that was said before, also where it knows of fewer versions.
const Epoch = 1_000_000

// EpochOf is the epoch of an event's version.
func EpochOf(version int64) int64 { return version / Epoch }

// LedgerHead is the payload of the topic ledger.heads: the last link of the chain over the ledger of payments. Whoever
// keeps it where nobody of Altyn can change it can tell later whether anything was changed that the ledger had then.
type LedgerHead struct {
	Number int64  `json:"number"` // of the link, from 1
	Hash   string `json:"hash"`   // of the link, SHA-256 in hexadecimal
	At     Time   `json:"at"`     // when it was published
}

// ErrID says that a text is no ID. It follows the field's name.
var ErrID = errors.New("must be a UUID")

// idLength is that of a UUID as 8-4-4-4-12 hexadecimal digits.
const idLength = 36

// ParseID reads a UUID of 36 characters, the only form that is accepted. uuid.Parse also takes braces, urn:uuid: and no
// dashes.
func ParseID(text string) (uuid.UUID, error) {
	if len(text) != idLength {
		return uuid.Nil, ErrID
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, ErrID
	}
	return id, nil
}

// namespace is the root of the derived IDs below.
var namespace = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/altyn-pay/altyn"))

// DerivedID is the ID of a request that came with a key of its client: a UUIDv5 over its scope, which is where it
// came in (a path or a topic), the account that it is charged to and the key. So the same request repeated is the
// same message, and keys of different scopes and accounts never collide.
func DerivedID(scope string, account uuid.UUID, key string) uuid.UUID {
	name := make([]byte, 0, len(namespace)+len(scope)+1+len(account)+len(key))
	name = append(append(append(name, namespace[:]...), scope...), 0)
	name = append(append(name, account[:]...), key...)
	return version5(name)
}

// EventID identifies one transition of an order or a payment: a UUIDv5 over its subject and version. So an event that
// is published twice is recognisably the same.
func EventID(eventType string, subject uuid.UUID, version int64) uuid.UUID {
	name := make([]byte, 0, len(namespace)+len(subject)+len(eventType)+8)
	name = append(append(name, namespace[:]...), subject[:]...)
	name = append(name, eventType...)
	return version5(binary.BigEndian.AppendUint64(name, uint64(version)))
}

// version5 is uuid.NewSHA1 over a name that begins with its namespace, without that function's allocations.
func version5(name []byte) uuid.UUID {
	sum := sha1.Sum(name)
	id := uuid.UUID(sum[:len(uuid.UUID{})])
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	return id
}

// CheckText returns what is wrong with a free text: more than limit characters, or the character U+0000, which
// PostgreSQL cannot store. The error follows the field's name.
func CheckText(text string, limit int) error {
	switch {
	case len(text) > limit && utf8.RuneCountInString(text) > limit:
		return fmt.Errorf("must have at most %d characters", limit)
	case strings.IndexByte(text, 0) >= 0:
		return fmt.Errorf("must not contain the character U+0000")
	case !utf8.ValidString(text):
		return fmt.Errorf("must be UTF-8")
	}
	return nil
}

// Lanes is the number of lanes. It is fixed for the life of a database: every table of an account's data carries the
// lane. The number of partitions of a topic must divide it.
const Lanes = 64

// Lane returns the lane of an account, the unit of order, parallelism and distribution: the hash of Kafka's default
// partitioner over the account ID as text, modulo Lanes. Because the number of partitions divides Lanes, a partition
// always carries the same lanes.
func Lane(account uuid.UUID) int16 {
	return int16(Partition(account.String(), Lanes))
}

// Partition returns the partition that Kafka's default partitioner chooses for a key, of so many partitions.
func Partition(key string, partitions int) int {
	return int(murmur2([]byte(key)) & 0x7fffffff % uint32(partitions))
}

// murmur2 is the 32-bit MurmurHash2 as org.apache.kafka.common.utils.Utils.murmur2 computes it.
func murmur2(data []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := uint32(seed) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h = h*m ^ k
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(data[0])) * m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}

// Time is a point in time as it is written everywhere: RFC 3339 in UTC, always with six digits of a second, so that
// times sort as text. It is read with any offset and any number of digits.
type Time time.Time

// TimeFormat is how a Time in UTC is written, for time.Format.
const TimeFormat = "2006-01-02T15:04:05.000000Z"

var errYear = errors.New("a time is not in the years 0 to 9999")

// MarshalText writes the time, cut to microseconds. encoding/json checks less of it than of what a MarshalJSON writes.
func (t Time) MarshalText() ([]byte, error) {
	utc := time.Time(t).UTC()
	if year := utc.Year(); year < 0 || year > 9999 {
		return nil, errYear
	}
	const nanoseconds = 3 // digits that AppendFormat writes first and cuts off
	return utc.AppendFormat(make([]byte, 0, len(TimeFormat)+nanoseconds), TimeFormat), nil
}

// UnmarshalJSON reads a time.
func (t *Time) UnmarshalJSON(text []byte) error { return (*time.Time)(t).UnmarshalJSON(text) }

// IsZero reports whether there is no time, for omitzero.
func (t Time) IsZero() bool { return time.Time(t).IsZero() }

// String is the time as in JSON.
func (t Time) String() string { return time.Time(t).UTC().Format(TimeFormat) }
