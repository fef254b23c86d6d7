// Package identity says who asks, and what that lets them reach. It has values only: it reads no tokens and asks
// nobody (package bearer does), so rules that must stay pure may import it.
//
// A door makes an Identity of a token and asks it for its Reach by the scope that the request needs. From there on
// only the Reach goes on, down into each query: what it does not cover is not there.
package identity
