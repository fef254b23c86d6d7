package httpserver

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// bodyTimeout bounds the arrival of a request's body.
const bodyTimeout = 15 * time.Second

// freeBody is how much of each body needs no room in the budget, because its connection has a buffer of that size
// anyhow. So small requests pass even when large ones have taken all the room.
const freeBody = 4 << 10

// budget bounds the bytes of requests' bodies that are in memory at a time: of all, or of those of one who asks.
type budget struct {
	limit int64
	full  *Problem // when there is no room
	taken atomic.Int64
}

// take takes n more bytes and reports whether there was room for them. A negative n gives bytes back.
func (b *budget) take(n int64) bool {
	if b.taken.Add(n) > b.limit && n > 0 {
		b.taken.Add(-n)
		return false
	}
	return true
}

// waitingBody is what else a request takes until its body is whole: its goroutine, and the buffers of its connection
// or stream. A connection of HTTP/2 can have hundreds of such requests.
const waitingBody = 16 << 10

// hurry bounds the arrival of a body when there is no room for waiting. A body that was sent together with its
// headers is there by then, so the slow bodies of some stop nobody else.
const hurry = 250 * time.Millisecond

// body is a request's body. It must arrive by a deadline. Until release it takes room in budgets, for what has
// arrived and for waiting until it is whole.
//
// The deadline is the connection's, so it is lifted at the body's end: the server's next read only has to notice that
// the client leaves. It stays when the body is not read to its end, because the server then reads the rest to reuse
// the connection.
type body struct {
	io.ReadCloser
	control *http.ResponseController
	read    int64
	waiting int64    // the room for waiting; 0 where there was none
	late    *Problem // when it is late then

	mu       sync.Mutex // a proxy's transport may still read when the request is over
	budgets  []*budget
	taken    int64 // of each of them
	released bool
}

func newBody(w http.ResponseWriter, from io.ReadCloser, budget *budget) *body {
	b := &body{ReadCloser: from, control: http.NewResponseController(w), waiting: waitingBody, taken: waitingBody}
	_ = b.control.SetReadDeadline(time.Now().Add(bodyTimeout)) // A writer that knows no deadlines is a test's.
	b.share(budget)
	return b
}

// share lets the body take its room in a further budget too, before anything of it is read. Where that has no room for
// waiting, the body must hurry.
func (b *body) share(budget *budget) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !budget.take(b.taken) {
		b.give()
		b.waiting, b.late = 0, budget.full
		_ = b.control.SetReadDeadline(time.Now().Add(hurry))
	}
	b.budgets = append(b.budgets, budget)
}

// give gives back all that the body has taken. mu is held.
func (b *body) give() {
	for _, budget := range b.budgets {
		budget.taken.Add(-b.taken)
	}
	b.taken = 0
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	room := max(b.read-freeBody, 0)
	if err == io.EOF {
		_ = b.control.SetReadDeadline(time.Time{})
	} else {
		room += b.waiting
	}
	if b.late != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, b.late
	}
	if full := b.take(room); full != nil {
		return 0, full
	}
	return n, err
}

// take makes room the number of bytes that the body takes. Where there is no room it returns the problem.
func (b *body) take(room int64) *Problem {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.released {
		return b.budgets[0].full
	}
	for i, budget := range b.budgets {
		if !budget.take(room - b.taken) {
			for _, before := range b.budgets[:i] {
				before.taken.Add(b.taken - room)
			}
			return budget.full
		}
	}
	b.taken = room
	return nil
}

// release gives back what the body took.
func (b *body) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.give()
	b.released = true
}

// BodyProblem returns the problem of a body that could not be read: 413 when http.MaxBytesReader ended it, 408 when
// it took too long, 503 or 429 when there is no room for it, and 400 otherwise, such as when the client went away.
func BodyProblem(err error) *Problem {
	var large *http.MaxBytesError
	var known *Problem
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &large):
		return NewProblem(http.StatusRequestEntityTooLarge, CodeBodyTooLarge,
			fmt.Sprintf("the body is larger than %d bytes", large.Limit))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return NewProblem(http.StatusRequestTimeout, CodeRequestTimeout, "the body did not arrive in time").Because(err)
	}
	return NewProblem(http.StatusBadRequest, CodeInvalidJSON, "the body could not be read to its end").Because(err)
}
