package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

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
	records, err := unpack(b.attributes.Compression(), b.packed, maxUnpackedBytes)
	return &recordReader{batch: b, from: from, rest: records}, err
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

// maxUnpackedBytes bounds a record batch once it is decompressed. It is eight times what brokers accept by default, and
// common clients limit a batch before they compress it. A larger one is not read: a few kilobytes may become gigabytes.
const maxUnpackedBytes = 8 << 20

var errTooLarge = fmt.Errorf("it has more than the %d bytes allowed once decompressed", maxUnpackedBytes)

// unpack decompresses the records of a batch. It never takes much more memory than limit, whatever size the packed data
// claims.
func unpack(codec compress.Compression, packed []byte, limit int) ([]byte, error) {
	if codec == compress.None || len(packed) == 0 { // all records of the batch are compacted away
		return packed, nil
	}
	switch codec {
	case compress.Snappy:
		return unpackSnappy(packed, limit)
	case compress.Zstd:
		return unpackZstd(packed, limit)
	case compress.Gzip, compress.Lz4:
		r := codec.Codec().NewReader(bytes.NewReader(packed))
		defer r.Close()
		var out bytes.Buffer
		if n, err := io.CopyN(&out, r, int64(limit)+1); n > int64(limit) {
			return nil, errTooLarge
		} else if err != io.EOF { //nolint:errorlint // io.ErrUnexpectedEOF is a failure
			return nil, err
		}
		return out.Bytes(), nil
	default:
		return nil, fmt.Errorf("its compression %d is not known", codec)
	}
}

// Java's clients put Snappy's blocks into a stream of their own: this header, eight bytes of versions, then each block
// behind its length.
var snappyStream = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const snappyStreamHeader = 16

func unpackSnappy(packed []byte, limit int) ([]byte, error) {
	if len(packed) < snappyStreamHeader || !bytes.HasPrefix(packed, snappyStream) {
		return appendSnappy(nil, packed, limit)
	}
	var out []byte
	for rest := packed[snappyStreamHeader:]; len(rest) > 0; {
		if len(rest) < 4 || int64(binary.BigEndian.Uint32(rest)) > int64(len(rest)-4) {
			return nil, io.ErrUnexpectedEOF
		}
		end := 4 + int(binary.BigEndian.Uint32(rest))
		var err error
		if out, err = appendSnappy(out, rest[4:end], limit); err != nil {
			return nil, err
		}
		rest = rest[end:]
	}
	return out, nil
}

// appendSnappy decodes a block. It checks the length that the block claims before it takes memory.
func appendSnappy(out, block []byte, limit int) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if n > limit-len(out) {
		return nil, errTooLarge
	}
	decoded, err := s2.Decode(nil, block)
	if err != nil || out == nil {
		return decoded, err
	}
	return append(out, decoded...), nil
}

const zstdBlock = 128 << 10 // the largest block of zstd

// zstdDecoder accepts windows of up to 512 MiB, which the highest levels of zstd ask for. They cost nothing here: the
// output itself is the window, and its capacity limits it.
var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true))
})

func unpackZstd(packed []byte, limit int) ([]byte, error) {
	decoder, err := zstdDecoder()
	if err != nil {
		return nil, err
	}
	var frame zstd.Header
	if err := frame.Decode(packed); err == nil && frame.FrameContentSize > uint64(limit) {
		return nil, errTooLarge
	}
	for size := max(zstdBlock, 4*len(packed)); ; size *= 2 { // until it suffices
		size = min(size, limit)
		out, err := decoder.DecodeAll(packed, make([]byte, 0, size+zstdBlock))
		switch {
		case err == nil && len(out) <= limit:
			return out, nil
		case err != nil && len(out) < size && !errors.Is(err, zstd.ErrDecoderSizeExceeded):
			return nil, err // not for lack of room: another block would have fitted
		case size == limit:
			return nil, errTooLarge
		}
	}
}
