package group

import "github.com/altyn-pay/altyn/platform/kafka/internal/broker"

const (
	// A batch is what has arrived, up to these bounds; a single message may exceed the bytes.
	maxBatchMessages = 1000
	maxBatchBytes    = 4 << 20

	// Batches are made of chunks of at most this much, so that partitions take turns.
	maxChunkMessages = 250
	maxChunkBytes    = 256 << 10
)

// batch is messages that are handled together.
type batch struct {
	messages []broker.Message
	next     map[broker.Partition]int64 // the offsets to go on from after it
}

// cut makes a batch of what was fetched, and returns what is left.
func cut(fetched []broker.Fetched) (b batch, rest []broker.Fetched) {
	waiting := 0
	for _, f := range fetched {
		waiting += len(f.Messages)
	}
	b = batch{make([]broker.Message, 0, min(waiting, maxBatchMessages)), map[broker.Partition]int64{}}
	const lastMessages, lastBytes = maxBatchMessages - maxChunkMessages, maxBatchBytes - maxChunkBytes
	for size := 0; len(fetched) > 0 && len(b.messages) <= lastMessages && size <= lastBytes; {
		f := fetched[0]
		fetched = fetched[1:]
		n := 0
		for chunk := 0; n < min(len(f.Messages), maxChunkMessages) && chunk < maxChunkBytes; n++ {
			chunk += f.Messages[n].Size()
			size += f.Messages[n].Size()
		}
		b.messages, b.next[f.Partition] = append(b.messages, f.Messages[:n]...), f.Next
		if f.Messages = f.Messages[n:]; len(f.Messages) > 0 {
			b.next[f.Partition] = f.Messages[0].Offset
			fetched = append(fetched, f)
		}
	}
	return b, fetched
}
