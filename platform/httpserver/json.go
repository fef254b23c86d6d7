package httpserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"

	"github.com/altyn-pay/altyn/platform/strictjson"
)

const maxBody = 1 << 20

// DecodeJSON reads the request's body, one JSON object, into the struct that dst points to, as strictjson.Unmarshal
// does. Answered with Error, its errors are
//
//   - 415 when the body is not application/json (in UTF-8, not compressed);
//   - 413 when it is larger than 1 MiB, however it is sent; 408 when it takes more than 15 s to arrive;
//   - 400 invalid_json, unknown_field or validation_failed for what strictjson refuses, naming the field where there
//     is one.
func DecodeJSON(w http.ResponseWriter, r *http.Request, dst any) error {
	if err := checkMediaType(r.Header); err != nil {
		return err
	}
	if r.ContentLength > maxBody {
		return BodyProblem(&http.MaxBytesError{Limit: maxBody})
	}
	// Memory is taken for what arrives, not for what is announced.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return BodyProblem(err)
	}
	return strictjson.Unmarshal(body, dst)
}

// DecodeOptionalJSON is DecodeJSON for a call whose fields are all optional: without a body it leaves dst as it is.
func DecodeOptionalJSON(w http.ResponseWriter, r *http.Request, dst any) error {
	if r.ContentLength == 0 {
		return nil
	}
	return DecodeJSON(w, r, dst)
}

func checkMediaType(header http.Header) error {
	const detail = "the body must be sent as Content-Type: application/json"
	contentType := header.Get("Content-Type")
	if contentType != "application/json" {
		media, params, err := mime.ParseMediaType(contentType)
		charset := params["charset"]
		if err != nil || media != "application/json" || charset != "" && charset != "utf-8" && charset != "UTF-8" {
			return NewProblem(http.StatusUnsupportedMediaType, CodeUnsupportedMediaType, detail)
		}
	}
	if encoding := header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return NewProblem(http.StatusUnsupportedMediaType, CodeUnsupportedMediaType, detail+" without a Content-Encoding")
	}
	return nil
}

// WriteJSON answers with v as JSON. When v cannot be encoded it writes nothing, so that the error can still be
// answered.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false) // The content type and nosniff keep browsers from reading it as HTML.
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(buffer.Len()))
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(buffer.Bytes()) // A client that is gone misses nothing.
	return nil
}

// List is one page of a list.
type List[T any] struct {
	Items []T `json:"items"`
	// NextCursor gets the next page; it is empty on the last one.
	NextCursor string `json:"next_cursor,omitempty"`
}

// NewList returns a page whose items are [] in JSON, not null, when there are none.
func NewList[T any](items []T, nextCursor string) List[T] {
	if items == nil {
		items = []T{}
	}
	return List[T]{Items: items, NextCursor: nextCursor}
}
