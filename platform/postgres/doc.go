// Package postgres is how a service talks to its database: one pool of connections whose every wait has a bound
// (Open), transactions that survive deadlocks (InTx), the kinds of errors a caller decides by (IsUnavailable,
// IsTransient, IsOutcomeUnknown), and the schema (Provision, Migrate, CheckSchema).
//
// Every database has two roles. The owner creates the tables; the service's role reads and writes rows and can change
// no schema. So a service with a bug, or one that is broken into, can neither drop a table nor regain rights that a
// migration took from it.
//
// SQL itself lives with the package whose tables it names.
package postgres
