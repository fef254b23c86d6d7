package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

// MaxMessageBytes bounds a message: its key, value and headers with some bytes of overhead each. It is what a broker
// accepts by default.
const MaxMessageBytes = 1 << 20

// Message is one record of a topic.
type Message struct {
	Topic     string
	Partition int   // set when consumed; a Producer derives it from the key
	Offset    int64 // set when consumed
	Key       []byte
	Value     []byte
	Headers   []Header
	Time      time.Time // of its production; zero means now

	// Appended is set on a consumed message whose Time is when the broker got it; its writer did not choose that time.
	Appended bool
	// Authorization has the values of a consumed message's headers named authorization, in any case. They are not among
	// its Headers: a token is for whoever judges the message, and must not go with it into a table, a dead letter or a
	// log.
	Authorization []string

	// Unreadable is set on a consumed message that stands for offsets which could not be read. Of such a message only the
	// place is set.
	Unreadable *UnreadableError
}

// UnreadableError is why a record batch, or a part of it, cannot be read however often it is fetched.
type UnreadableError struct {
	First, Last int64 // offsets
	Cause       error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("the record batch with the offsets %d to %d cannot be read: %v", e.First, e.Last, e.Cause)
}

func (e *UnreadableError) Unwrap() error { return e.Cause }

// Header is a named value beside the payload. Names may repeat.
type Header = kafkago.Header

// authorization is the header that has a token.
const authorization = "authorization"

// keepApart moves the authorization headers out of Headers, which others forward.
func (m *Message) keepApart() {
	isToken := func(h Header) bool { return strings.EqualFold(h.Key, authorization) }
	if !slices.ContainsFunc(m.Headers, isToken) {
		return
	}
	for _, h := range m.Headers {
		if isToken(h) {
			m.Authorization = append(m.Authorization, string(h.Value))
		}
	}
	m.Headers = slices.DeleteFunc(m.Headers, isToken)
}

// Place names where a consumed message is: topic/partition/offset.
func (m Message) Place() string { return fmt.Sprintf("%s/%d/%d", m.Topic, m.Partition, m.Offset) }

// Header returns the last value of that name, as Kafka's own clients do, or "" where there is none.
func (m Message) Header(name string) string {
	for _, h := range slices.Backward(m.Headers) {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// ShortHeader is a header for the log: its first 64 bytes, because anybody may have written it.
func (m Message) ShortHeader(name string) string {
	value := m.Header(name)
	return value[:min(len(value), 64)]
}

// Size is an upper bound of the bytes that the message takes in a record batch.
func (m Message) Size() int {
	// A record has at most 21 bytes of attributes, length, time and offset, and 5 bytes for each further length.
	n := 36 + len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		n += 10 + len(h.Key) + len(h.Value)
	}
	return n
}

// memory is about how much memory a consumed message takes.
func (m Message) memory() int {
	n := m.Size() + 160 + 40*len(m.Headers)
	for _, value := range m.Authorization {
		n += 16 + len(value)
	}
	return n
}

// kafka-go's own type for the answer to a fetch drops which transaction a batch belongs to and where it ends, and it
// decompresses whatever comes. So fetchResponse replaces it. The only other user would be kafka-go's Client.Fetch,
// which must not be used.
func init() { protocol.Register(&fetch.Request{}, &fetchResponse{}) }

type fetchResponse struct {
	ThrottleTimeMs int32        `kafka:"min=v1,max=v11"`
	ErrorCode      int16        `kafka:"min=v7,max=v11"`
	SessionID      int32        `kafka:"min=v7,max=v11"`
	Topics         []fetchTopic `kafka:"min=v0,max=v11"`
}

//nolint:revive // kafka-go names it
func (*fetchResponse) ApiKey() protocol.ApiKey { return protocol.Fetch }

type fetchTopic struct {
	Topic      string           `kafka:"min=v0,max=v11"`
	Partitions []fetchPartition `kafka:"min=v0,max=v11"`
}

type fetchPartition struct {
	Partition            int32                       `kafka:"min=v0,max=v11"`
	ErrorCode            int16                       `kafka:"min=v0,max=v11"`
	HighWatermark        int64                       `kafka:"min=v0,max=v11"`
	LastStableOffset     int64                       `kafka:"min=v4,max=v11"`
	LogStartOffset       int64                       `kafka:"min=v5,max=v11"`
	AbortedTransactions  []fetch.ResponseTransaction `kafka:"min=v4,max=v11"`
	PreferredReadReplica int32                       `kafka:"min=v11,max=v11"`
	Records              recordBatches               `kafka:"min=v0,max=v11"`
}

// recordBatches are a partition's batches as they arrived, still compressed.
type recordBatches struct{ list []recordBatch }

type recordBatch struct {
	base       int64 // the offset from which its records' offsets count
	last       int64 // the offset of its last record, which may be compacted away
	size       int   // of the whole batch in bytes
	attributes protocol.Attributes
	firstTime  int64 // in milliseconds
	maxTime    int64
	producerID int64
	count      int32
	packed     []byte // the records; nil if the batch is too large
	damaged    bool   // its checksum is wrong
}

const (
	batchPrefix = 8 + 4  // the base offset and the length of what follows
	batchHeader = 61     // everything before the records
	checkedFrom = 21     // the checksum covers the batch from here on
	logAppended = 1 << 3 // the attribute of a batch that has the broker's time

	maxHeaders = 10_000 // of a record: a header of two bytes takes forty in memory
)

var checksums = crc32.MakeTable(crc32.Castagnoli)

// ReadFrom implements io.ReaderFrom, by which kafka-go reads a type that it does not know. The last batch may be cut
// off where the requested number of bytes ended.
func (b *recordBatches) ReadFrom(r io.Reader) (int64, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return 0, err
	}
	size := int64(max(0, int32(binary.BigEndian.Uint32(prefix[:]))))
	set := &io.LimitedReader{R: r, N: size}
	for set.N >= batchHeader {
		batch, whole, err := readBatch(set)
		if err != nil {
			return 4 + size - set.N, err
		}
		if !whole {
			break
		}
		b.list = append(b.list, batch)
	}
	_, err := io.Copy(io.Discard, set)
	return 4 + size - set.N, err
}

func readBatch(set *io.LimitedReader) (b recordBatch, whole bool, err error) {
	var header [batchHeader]byte
	if _, err := io.ReadFull(set, header[:]); err != nil {
		return b, false, err
	}
	if format := header[16]; format != 2 {
		return b, false, fmt.Errorf("a record batch has the format %d; that of Kafka 0.11 and later is 2", format)
	}
	b = recordBatch{
		base:       int64(binary.BigEndian.Uint64(header[:])),
		size:       batchPrefix + int(int32(binary.BigEndian.Uint32(header[8:]))),
		attributes: protocol.Attributes(binary.BigEndian.Uint16(header[21:])),
		last:       int64(int32(binary.BigEndian.Uint32(header[23:]))),
		firstTime:  int64(binary.BigEndian.Uint64(header[27:])),
		maxTime:    int64(binary.BigEndian.Uint64(header[35:])),
		producerID: int64(binary.BigEndian.Uint64(header[43:])),
		count:      int32(binary.BigEndian.Uint32(header[57:])),
	}
	rest := b.size - batchHeader
	if rest < 0 || b.last < 0 {
		return b, false, fmt.Errorf("a record batch cannot have %d bytes and end %d behind its offset", b.size, b.last)
	}
	if b.last += b.base; int64(rest) > set.N {
		return b, false, nil
	}
	if rest > maxUnpackedBytes {
		_, err := io.CopyN(io.Discard, set, int64(rest))
		return b, true, err
	}
	b.packed = make([]byte, rest)
	if _, err := io.ReadFull(set, b.packed); err != nil {
		return b, false, err
	}
	checksum := crc32.Update(crc32.Checksum(header[checkedFrom:], checksums), checksums, b.packed)
	b.damaged = checksum != binary.BigEndian.Uint32(header[17:])
	return b, true, nil
}

// records returns a reader of the batch's records from an offset on.
func (b *recordBatch) records(from int64) (*recordReader, error) {
	if b.packed == nil {
		return nil, fmt.Errorf("it has %d bytes, of which at most %d are allowed", b.size, maxUnpackedBytes)
	}
	r := &recordReader{batch: b, from: from, rest: b.packed}
	codec := b.attributes.Compression()
	if codec == compress.None {
		return r, nil
	}
	var err error
	r.rest, err = unpack(codec, b.packed, maxUnpackedBytes)
	return r, err
}

// aborts tells whether a control batch aborts its producer's transaction.
func (b *recordBatch) aborts() bool {
	records, err := b.records(b.base)
	if err != nil {
		return false
	}
	mark, err := records.next()
	return err == nil && len(mark.Key) >= 4 && binary.BigEndian.Uint16(mark.Key[2:]) == 0
}

type recordReader struct {
	batch *recordBatch
	from  int64
	rest  []byte
	read  int32
}

var errMalformed = errors.New("its records are malformed")

// next returns the next record, and io.EOF after the last one. The record shares no memory with the batch, so that one
// waiting message does not keep all others in memory.
func (r *recordReader) next() (m Message, err error) {
	for r.read < r.batch.count {
		r.read++
		length, n := binary.Varint(r.rest)
		if n <= 0 || length < 1 || length > int64(len(r.rest)-n) {
			return m, errMalformed
		}
		record := fields{rest: r.rest[n+1 : n+int(length)]} // the first byte has no meaning
		r.rest = r.rest[n+int(length):]
		sinceFirst, delta := record.number(), record.number()
		if record.failed || delta < 0 || delta > r.batch.last-r.batch.base {
			return m, errMalformed
		}
		if m.Offset = r.batch.base + delta; m.Offset < r.from { // a batch may begin before the offset that was asked for
			continue
		}
		if m.Time = time.UnixMilli(r.batch.firstTime + sinceFirst); r.batch.attributes&logAppended != 0 {
			m.Time, m.Appended = time.UnixMilli(r.batch.maxTime), true
		}
		record.rest = bytes.Clone(record.rest)
		m.Key, m.Value, m.Headers = record.bytes(), record.bytes(), record.headers()
		if record.failed {
			return m, errMalformed
		}
		m.keepApart()
		return m, nil
	}
	return m, io.EOF
}

// fields reads the fields of a record, one after another.
type fields struct {
	rest   []byte
	failed bool
}

func (f *fields) number() int64 {
	n, size := binary.Varint(f.rest)
	if size <= 0 {
		f.failed, size = true, 0
	}
	f.rest = f.rest[size:]
	return n
}

// bytes reads a length and that many bytes. A negative length means nil.
func (f *fields) bytes() []byte {
	n := f.number()
	if f.failed || n < 0 {
		return nil
	}
	if n > int64(len(f.rest)) {
		f.failed = true
		return nil
	}
	value := f.rest[:n:n]
	f.rest = f.rest[n:]
	return value
}

func (f *fields) headers() []Header {
	n := f.number()
	if f.failed || n < 0 || n > maxHeaders {
		f.failed = true
		return nil
	}
	if n == 0 {
		return nil
	}
	headers := make([]Header, n)
	for i := range headers {
		headers[i] = Header{Key: string(f.bytes()), Value: f.bytes()}
	}
	return headers
}
