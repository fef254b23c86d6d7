package edge

import (
	"bytes"
	"io"
	"net/http"

	"github.com/altyn-pay/altyn/platform/httpserver"
)

const (
	// smallBody is the largest body that is read before it is passed on: http.Transport can then send it again when a
	// kept connection turns out to be closed. Of a larger one this much is read first, so that no service waits for a
	// client that sends nothing; the rest goes through.
	smallBody = 64 << 10
	// usualBody is the room that a body gets at first. Beyond it memory grows as the bytes arrive.
	usualBody = 4 << 10
)

// readBody gives the request a body that can be passed on, of at most limit bytes, instead of the client's. All of a
// small one, or the beginning of a large one, is in memory then. Its error is an *httpserver.Problem.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) error {
	if r.ContentLength == 0 {
		return nil
	}
	if r.ContentLength > limit {
		return httpserver.BodyProblem(&http.MaxBytesError{Limit: limit})
	}
	rest := http.MaxBytesReader(w, r.Body, limit)
	begin, whole, err := readBeginning(rest, r.ContentLength)
	switch {
	case err != nil:
		return httpserver.BodyProblem(err)
	case whole:
		r.ContentLength, r.TransferEncoding = int64(len(begin)), nil
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(begin)), nil }
		r.Body, err = r.GetBody()
		return err
	}
	r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(begin), body{rest}))
	return nil
}

// readBeginning reads a body, which has this length if that is not negative, up to smallBody. whole means that this
// is all of it.
func readBeginning(from io.Reader, length int64) (begin []byte, whole bool, err error) {
	limit := int64(smallBody)
	if length >= 0 {
		limit = min(limit, length)
	}
	begin = make([]byte, 0, min(limit, usualBody))
	for {
		n, err := from.Read(begin[len(begin):cap(begin)])
		begin = begin[:len(begin)+n]
		switch {
		case err == io.EOF, err == nil && int64(len(begin)) == length:
			return begin, true, nil
		case err != nil:
			return nil, false, err
		case int64(len(begin)) == limit:
			return begin, false, nil
		case len(begin) == cap(begin):
			begin = append(make([]byte, 0, min(limit, int64(2*len(begin)))), begin...)
		}
	}
}

// body marks what goes wrong while a client's body is read, to tell it from what goes wrong with the service.
type body struct{ io.Reader }

func (b body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = httpserver.BodyProblem(err)
	}
	return n, err
}
