package kafkatest

import _ "github.com/segmentio/kafka-go/sasl/plain"
