// Package identity says who asks, and what that lets them reach. It has values only: it reads no tokens and asks
// nobody (package bearer does), so rules that must stay pure may import it.
//
// HTTP, gRPC and the reader of messages make an Identity of a token, and ask it for its Reach by the scope that the
// request needs. Only the Reach goes on from there, down into each query: what it does not cover is not there.
package identity
