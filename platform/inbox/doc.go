// Package inbox gives messages their effect exactly once and, per account, in the order in which they were accepted.
//
// An Intake is the way in for everything: requests over HTTP, records of a broker (by a Receiver), timers. It
// promises:
//
//   - Once Accept has returned nil, the messages are safe, whatever dies. Each takes effect once, however often it is
//     accepted, provided that the handler recognises a message whose effect is there already by a permanent record.
//   - After an error nothing was accepted, unless pg.IsOutcomeUnknown(err): then the messages may have been, and may
//     be accepted again.
//   - An account's messages take effect in the order in which they were accepted.
//
// Where nothing is ahead of a message, it takes effect in the transaction that accepts it and never becomes a row.
// Otherwise it is stored, and a Worker claims it later: batch by batch, lane by lane, each batch in one transaction
// that gives its messages their effect and deletes their rows. A message that fails stops its account alone: it is
// tried again after growing pauses, and then parked until an operator redrives or discards it (Parked).
//
// A message that this version does not know, because a newer one has accepted it, is no failure (ErrUnknown). Its
// account's queue waits at it, and goes on by itself once a worker runs that knows it.
//
// A message of a stopped account need not wait if its effect does not depend on the messages before it (Inbox.Exempt).
//
// The application has one Handler, which gives a batch its effect in the transaction it is handed, and one Codec, by
// which the messages' bodies are stored. Migrations creates the tables.
//
// # Lanes
//
// The lane is the unit of order and of parallelism. Each message names the lane of its account: any fixed function of
// the account from 0 to contract.Lanes-1 serves; contract.Lane is the one that fits Kafka's partitions. Whoever
// settles a lane holds its transaction-level advisory lock, so any number of workers in any number of processes share
// the lanes, and a crash frees them at once.
//
// # What is specific to Altyn
//
// The number of lanes (contract.Lanes) and the names of the metrics, which begin with altyn_inbox. Nothing here knows
// what a message is about.
package inbox
