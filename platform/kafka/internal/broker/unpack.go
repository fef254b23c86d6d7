package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/compress"
)

// maxUnpackedBytes bounds a record batch once it is decompressed. It is eight times what brokers accept by default, and
// common clients limit a batch before they compress it. A larger one is not read: a few kilobytes may become gigabytes.
const maxUnpackedBytes = 8 << 20

var errTooLarge = fmt.Errorf("it has more than the %d bytes allowed once decompressed", maxUnpackedBytes)

// unpack decompresses the records of a batch. It never takes much more memory than limit, whatever size the packed data
// claims.
func unpack(codec compress.Compression, packed []byte, limit int) ([]byte, error) {
	if len(packed) == 0 { // all records of the batch are compacted away
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
