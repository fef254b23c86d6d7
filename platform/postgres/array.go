package postgres

import (
	"encoding/binary"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq/oid"
)

// The columns of many rows, as parameters of one statement: INSERT … SELECT FROM unnest($1::uuid[], $2::bigint[],
// …). They are sent in the server's binary form, so that neither side writes or parses text. So the parameter must
// have exactly the type named here.
type (
	UUIDs         []uuid.UUID // uuid[]
	OptionalUUIDs []uuid.UUID // uuid[]; uuid.Nil is sent as NULL
	Int16s        []int16     // smallint[]
	Int32s        []int32     // integer[]
	Int64s        []int64     // bigint[]
	Bools         []bool      // boolean[]
	Texts         []string    // text[]
	Blobs         [][]byte    // bytea[]; nil is sent as NULL
	Times         []time.Time // timestamptz[], to the microsecond; the zero time is sent as NULL
)

// BinaryValue and its namesakes are called by lib/pq.
func (a UUIDs) BinaryValue() ([]byte, error) {
	return array(a, oid.T_uuid, 16*len(a), func(b []byte, id uuid.UUID) []byte { return append(b, id[:]...) }, nil)
}

func (a OptionalUUIDs) BinaryValue() ([]byte, error) {
	return array(a, oid.T_uuid, 16*len(a), func(b []byte, id uuid.UUID) []byte { return append(b, id[:]...) },
		func(id uuid.UUID) bool { return id == uuid.Nil })
}

func (a Int16s) BinaryValue() ([]byte, error) {
	return array(a, oid.T_int2, 2*len(a), func(b []byte, n int16) []byte {
		return binary.BigEndian.AppendUint16(b, uint16(n))
	}, nil)
}

func (a Int32s) BinaryValue() ([]byte, error) {
	return array(a, oid.T_int4, 4*len(a), func(b []byte, n int32) []byte {
		return binary.BigEndian.AppendUint32(b, uint32(n))
	}, nil)
}

func (a Int64s) BinaryValue() ([]byte, error) {
	return array(a, oid.T_int8, 8*len(a), func(b []byte, n int64) []byte {
		return binary.BigEndian.AppendUint64(b, uint64(n))
	}, nil)
}

func (a Bools) BinaryValue() ([]byte, error) {
	return array(a, oid.T_bool, len(a), func(b []byte, yes bool) []byte {
		if yes {
			return append(b, 1)
		}
		return append(b, 0)
	}, nil)
}

func (a Texts) BinaryValue() ([]byte, error) {
	return array(a, oid.T_text, total(a), func(b []byte, text string) []byte { return append(b, text...) }, nil)
}

func (a Blobs) BinaryValue() ([]byte, error) {
	return array(a, oid.T_bytea, total(a), func(b []byte, blob []byte) []byte { return append(b, blob...) },
		func(blob []byte) bool { return blob == nil })
}

func total[T string | []byte](elements []T) (bytes int) {
	for _, e := range elements {
		bytes += len(e)
	}
	return bytes
}

// epoch is where PostgreSQL's time begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func (a Times) BinaryValue() ([]byte, error) {
	return array(a, oid.T_timestamptz, 8*len(a), func(b []byte, t time.Time) []byte {
		return binary.BigEndian.AppendUint64(b, uint64(t.UnixMicro()-epoch))
	}, time.Time.IsZero)
}

// array writes what array_recv of PostgreSQL's arrayfuncs.c reads: the number of dimensions, whether there are NULLs,
// the type of the elements, the length and lower bound of the only dimension, and each element after its length,
// which is -1 for NULL. bytes is the size of all elements together.
func array[T any](elements []T, element oid.Oid, bytes int, encode func([]byte, T) []byte, null func(T) bool) (
	[]byte, error) {
	const header, length = 20, 4
	b := make([]byte, 0, header+len(elements)*length+bytes)
	dimensions, nulls := uint32(1), uint32(0)
	if len(elements) == 0 {
		dimensions = 0
	}
	if null != nil {
		nulls = 1 // there may be
	}
	b = binary.BigEndian.AppendUint32(b, dimensions)
	b = binary.BigEndian.AppendUint32(b, nulls)
	b = binary.BigEndian.AppendUint32(b, uint32(element))
	if len(elements) == 0 {
		return b, nil
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(elements)))
	b = binary.BigEndian.AppendUint32(b, 1)
	for _, e := range elements {
		size := len(b)
		b = append(b, 0xff, 0xff, 0xff, 0xff)
		if null != nil && null(e) {
			continue
		}
		b = encode(b, e)
		binary.BigEndian.PutUint32(b[size:], uint32(len(b)-size-4))
	}
	return b, nil
}
