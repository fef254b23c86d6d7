// Package brokers is what a test says to the program testkit/cmd/brokers, by net/rpc over the
// program's standard input and output.
package brokers

import "time"

// The program's methods.
const (
	Start        = "Brokers.Start"        // (bool, *Broker)
	Stop         = "Brokers.Stop"         // (int of the broker, *bool)
	Refuse       = "Brokers.Refuse"       // (Refusal, *int of the refusal)
	AwaitRefused = "Brokers.AwaitRefused" // (Refused, *bool)
	AwaitFetched = "Brokers.AwaitFetched" // (Fetched, *bool)
)

// Broker is a running broker.
type Broker struct {
	ID      int
	Address string
}

// Refusal makes a broker answer the next requests to produce to a topic with an error; all of them where Count is -1.
type Refusal struct {
	Broker int
	Topic  string
	Code   int16
	Count  int
}

// Refused waits until a refusal has happened so often.
type Refused struct {
	Refusal int
	Count   int
	Timeout time.Duration
}

// Fetched waits until a broker is asked for what comes after so many messages, in all topics together.
type Fetched struct {
	Broker   int
	Messages int64
	Timeout  time.Duration
}
