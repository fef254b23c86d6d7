// Package stack runs the whole of Altyn on this machine without containers: PostgreSQL, Kafka and any number
// of instances of the services, as separate processes that are started in order, watched, started again when
// they crash, and ended in order. Command stack (behind `make start`), the whole-system tests and the
// benchmark are all built on it.
//
// Nothing outlives the process that started it, not even after kill -9 of that process: every part
// is told by the end of a pipe.
package stack
