package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/compress"
)

var compressions = []compress.Compression{compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd}

// pack compresses as the library's producers do: Snappy in the stream that Java's clients use.
func pack(t testing.TB, codec compress.Compression, data io.Reader) []byte {
	t.Helper()
	var out bytes.Buffer
	w := codec.Codec().NewWriter(&out)
	if _, err := io.Copy(w, data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestUnpackUpToTheLimit(t *testing.T) {
	const limit = 1 << 20
	random := rand.New(rand.NewPCG(1, 2))
	for _, codec := range compressions {
		t.Run(codec.String(), func(t *testing.T) {
			for _, size := range []int{0, 1, 1000, limit - 1, limit, limit + 1, 20 << 20} {
				for name, fill := range map[string]func([]byte){
					"zeros": func([]byte) {},
					"noise": func(b []byte) {
						for i := range b {
							b[i] = byte(random.Uint32())
						}
					},
				} {
					data := make([]byte, size)
					fill(data)
					packed := pack(t, codec, bytes.NewReader(data))
					got, err := unpack(codec, packed, limit)
					if size > limit {
						if !errors.Is(err, errTooLarge) || got != nil {
							t.Errorf("%d bytes of %s: %d bytes, %v", size, name, len(got), err)
						}
						continue
					}
					if err != nil || !bytes.Equal(got, data) {
						t.Errorf("%d bytes of %s: %d bytes, %v", size, name, len(got), err)
					}
					if len(packed) > 8 { // what is cut off is not taken for the whole
						if got, err := unpack(codec, packed[:len(packed)-5], limit); err == nil && bytes.Equal(got, data) {
							t.Errorf("%d bytes of %s are there though the end is missing", size, name)
						}
					}
				}
			}
		})
	}
}

// What the packed data says of itself takes no memory.
func TestUnpackBombs(t *testing.T) {
	const limit = 1 << 20
	bombs := map[string]struct {
		codec  compress.Compression
		packed []byte
	}{
		"a snappy block that announces 4 GB": {compress.Snappy, binary.AppendUvarint(nil, 1<<32-1)},
		"a snappy stream of many blocks":     {compress.Snappy, stream(bytes.Repeat([]byte{0}, 60<<10), 10_000)},
		"a snappy stream with a huge length": {compress.Snappy,
			append(append([]byte(nil), stream(nil, 0)...), 0xff, 0xff, 0xff, 0xff, 1)},
		"a zstd frame that announces a content": {compress.Zstd,
			[]byte{0x28, 0xb5, 0x2f, 0xfd, 0b1100_0000, 0x98, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0}},
		"a zstd frame of a long distance": {compress.Zstd, zstdLong(t)},
	}
	for _, codec := range compressions {
		if codec != compress.Snappy { // whose packed form of it has 50 MB
			bombs["a gigabyte of zeros in "+codec.String()] = struct {
				codec  compress.Compression
				packed []byte
			}{codec, pack(t, codec, io.LimitReader(zeros{}, 1<<30))}
		}
	}
	for name, bomb := range bombs {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := unpack(bomb.codec, bomb.packed, limit)
		runtime.ReadMemStats(&after)
		if err == nil || len(got) > limit {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if taken := after.TotalAlloc - before.TotalAlloc; taken > 16*limit {
			t.Errorf("%s took %d bytes of memory", name, taken)
		}
	}
}

// stream is what Java's clients make of a block that comes so many times.
func stream(block []byte, times int) []byte {
	out := append(append([]byte(nil), snappyStream...), 0, 0, 0, 1, 0, 0, 0, 1)
	encoded := s2.EncodeSnappy(nil, block)
	for range times {
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(encoded))), encoded...)
	}
	return out
}

// zstdLong is a frame with the largest window that a common encoder asks for.
func zstdLong(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(zstd.MaxWindowSize), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeros{}, 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A window larger than the limit is allowed as long as the content is not.
func TestUnpackZstdOfTheHighestLevels(t *testing.T) {
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(128<<20), zstd.WithEncoderLevel(zstd.SpeedBestCompression),
		zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("some text "), 20_000)
	for part := data; len(part) > 0; part = part[1000:] { // so that the encoder does not know the size
		if _, err := w.Write(part[:1000]); err != nil {
			t.Fatal(err)
		}
		if len(part) == len(data)/2 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var frame zstd.Header
	if err := frame.Decode(out.Bytes()); err != nil || frame.WindowSize <= 1<<20 {
		t.Fatalf("the frame is %+v, %v", frame, err)
	}
	if got, err := unpack(compress.Zstd, out.Bytes(), 1<<20); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestUnknownCompression(t *testing.T) {
	if got, err := unpack(7, []byte("anything"), 100); err == nil {
		t.Errorf("%q", got)
	}
}
