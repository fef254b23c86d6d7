// Package outbox publishes messages exactly when the transaction that wrote them commits. Append stores them in the
// caller's transaction; the Relay publishes what is committed and deletes it once the broker has acknowledged it. A
// crash between the two publishes a message again, never not at all; its ID tells a reader that it is the same.
//
// The order of messages is kept per key: they are published in the order in which their transactions wrote them. What a
// broker refuses for now waits by itself, per part of a topic, and keeps nothing else back. What it refuses for good is
// parked, with the later messages of its key, until an operator redrives or discards it (Parked). Backlog says when
// there is no room for more.
//
// The application writes messages (Append, or Insertion in a statement of its own), wakes its Relay after the commit,
// and gives the Relay a Publisher, such as kafka.NewPublisher. Migrations creates the tables. Any number of processes
// may run a Relay.
//
// # What is specific to Altyn
//
// A message names the lane of its key, from 0 to contract.Lanes-1: messages of one transaction that have the same lane
// share a row, and a Backlog goes by lanes; contract.Lane(account) fits where the key is an account, and 0 serves
// where one lane is enough. It names its tenant, if there are any (package identity). Which keys share a partition is
// known from contract.Partition, Kafka's default. The names of the metrics begin with altyn_outbox, the variables of
// Limits with OUTBOX.
package outbox
