// Package postgres is how a service talks to its database: one pool of connections whose every wait has a bound
// (Open), transactions that survive deadlocks (InTx), the kinds of errors a caller decides by (IsUnavailable,
// IsTransient, IsUniqueViolation), and the schema (Provision, Migrate, CheckSchema).
//
// Every database has two roles. The owner creates the tables; the service's role reads and writes rows and can change
// no schema. So a service that is broken into, or that has a bug, can neither drop a table nor undo the rights that a
// migration took away from it.
//
// SQL itself lives with the package whose tables it names.
package postgres
