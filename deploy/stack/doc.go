// Package stack runs the whole of Altyn on this machine without containers: PostgreSQL, Kafka and any number of
// instances of the services. Each is a process of its own. The package starts them in order, restarts them when they
// crash, and stops them in order. Command stack (`make start`), the whole-system tests and the benchmark are built on
// it.
//
// Nothing outlives the process that started it, not even after kill -9: every part watches a pipe from that process.
package stack
