package edge

import (
	"bytes"
	"errors"
	"io"
	"net/http"

	"github.com/altyn-pay/altyn/platform/httpserver"
)

// smallBody is the largest body that is read before it is passed on: http.Transport can then send it again when a kept
// connection turns out to be closed. Of a larger one this much is read first, so that no service waits for a client
// that sends nothing; the rest goes through.
const smallBody = 64 << 10

// readBody gives the request a body that can be passed on, of at most limit bytes, instead of the client's. All of a
// small one, or the beginning of a large one, is in memory then: as much as has arrived, not what is announced. Its
// error is an *httpserver.Problem.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) error {
	if r.ContentLength == 0 {
		return nil
	}
	if r.ContentLength > limit {
		return httpserver.BodyProblem(&http.MaxBytesError{Limit: limit})
	}
	rest := http.MaxBytesReader(w, r.Body, limit)
	begin, err := io.ReadAll(io.LimitReader(rest, smallBody+1))
	if err != nil {
		return httpserver.BodyProblem(err)
	}
	if len(begin) > smallBody {
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(begin), body{rest}))
		return nil
	}
	r.ContentLength, r.TransferEncoding = int64(len(begin)), nil
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(begin)), nil }
	r.Body, err = r.GetBody()
	return err
}

// body marks what goes wrong while a client's body is read, to tell it from what goes wrong with the service.
type body struct{ io.Reader }

func (b body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = httpserver.BodyProblem(err)
	}
	return n, err
}
