package upstream

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	// MaxMemory is the largest body that is sent together with its headers, if it is in memory (Request.GetBody).
	MaxMemory = 64 << 10
	// keptBuffer is the largest buffer that is used again for another request.
	keptBuffer = 4 << 10
)

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// inMemory reports whether a request can be sent by a pool: its whole body is there.
func inMemory(request *http.Request) bool {
	if request.Body == nil || request.Body == http.NoBody {
		return true
	}
	return request.ContentLength > 0 && request.ContentLength <= MaxMemory && request.GetBody != nil
}

// repeatable reports whether a request may be sent again that may have arrived, by the rule of http.Transport.
func repeatable(request *http.Request) bool {
	switch request.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return request.Header.Get("Idempotency-Key") != ""
}

// appendRequest appends a request that is inMemory as it is sent.
func appendRequest(text []byte, request *http.Request) ([]byte, error) {
	uri, host := request.URL.RequestURI(), cmp.Or(request.Host, request.URL.Host)
	length := 0
	if request.Body != nil && request.Body != http.NoBody {
		length = int(request.ContentLength)
	}
	text = append(append(append(text, request.Method...), ' '), uri...)
	text = append(append(text, " HTTP/1.1\r\nHost: "...), host...)
	clean := isClean(uri) && isClean(host)
	for name, values := range request.Header {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer": // said by the request's own fields
			continue
		}
		for _, value := range values {
			clean = clean && strings.IndexByte(value, '\r') < 0 && strings.IndexByte(value, '\n') < 0
			text = append(append(append(append(text, "\r\n"...), name...), ": "...), value...)
		}
	}
	if !clean {
		return nil, errors.New("the request is no HTTP: it has control characters")
	}
	if length > 0 || expectsBody(request.Method) {
		text = strconv.AppendInt(append(text, "\r\nContent-Length: "...), int64(length), 10)
	}
	text = append(text, "\r\n\r\n"...)
	if length == 0 {
		return text, nil
	}
	body, err := request.GetBody()
	if err != nil {
		return nil, err
	}
	defer body.Close()
	head := len(text)
	text = slices.Grow(text, length)[:head+length]
	_, err = io.ReadFull(body, text[head:])
	return text, err
}

// isClean reports whether s can stand among the words of a request's head.
func isClean(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// expectsBody reports whether a request of this method must say that it has no body.
func expectsBody(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}
