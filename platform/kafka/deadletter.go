package kafka

import (
	"strings"

	"github.com/altyn-pay/altyn/platform/contract"
)

// deadLetterPrefix begins the headers that DeadLetter adds.
const deadLetterPrefix = "dlq_"

// truncatedHeader says of a dead letter that it is not the whole message.
const truncatedHeader = deadLetterPrefix + "truncated"

// Original is the message that a dead letter keeps, to be produced again: on the topic that it came from, with its key,
// value and headers. It is false where there is no whole one: what was cut for its size, and what is no dead letter.
func Original(dead Message) (m Message, ok bool) {
	topic, ok := strings.CutSuffix(dead.Topic, contract.DeadLetter(""))
	if !ok || dead.Header(truncatedHeader) != "" {
		return Message{}, false
	}
	m = Message{Topic: topic, Key: dead.Key, Value: dead.Value}
	for _, h := range dead.Headers {
		if !strings.HasPrefix(h.Key, deadLetterPrefix) {
			m.Headers = append(m.Headers, h)
		}
	}
	return m, true
}
