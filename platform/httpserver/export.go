package httpserver

import (
	"context"
	"iter"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/altyn-pay/altyn/platform/contract"
)

const (
	// exportPage is how many rows of an export are read at once.
	exportPage = 1000
	// maxExports bounds the exports that a process makes at the same time: each keeps the database busy.
	maxExports = 16
)

// The media types of lists and statements.
const (
	JSON   = "application/json"
	CSV    = "text/csv"
	Ledger = "text/x-ledger"
)

// Accepted returns which of the offered media types the request's Accept prefers (RFC 9110, section 12.5.1), with the
// parameters that it asks for. Without Accept, and of types that are as welcome, it is the first one. The error is 406
// not_acceptable where Accept has none of them.
func Accepted(r *http.Request, offers ...string) (media string, parameters map[string]string, err error) {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if strings.TrimSpace(accept) == "" {
		return offers[0], nil, nil
	}
	best, bestFit := 0.0, 0 // of types that are as welcome, one that is named goes before those that */* lets in
	for _, offer := range offers {
		quality, precision, asked := 0.0, 0, map[string]string(nil)
		for part := range strings.SplitSeq(accept, ",") {
			name, with, err := mime.ParseMediaType(part)
			if err != nil {
				continue
			}
			q := 1.0
			if text, ok := with["q"]; ok {
				if q, err = strconv.ParseFloat(text, 64); err != nil || q < 0 || q > 1 {
					continue
				}
				delete(with, "q")
			}
			kind, _, _ := strings.Cut(offer, "/")
			fit := map[string]int{"*/*": 1, kind + "/*": 2, offer: 3}[name]
			if fit > precision || fit == precision && fit > 0 && q > quality {
				quality, precision, asked = q, fit, with
			}
		}
		if quality > best || quality == best && best > 0 && precision > bestFit {
			best, bestFit, media, parameters = quality, precision, offer, asked
		}
	}
	if media == "" {
		return "", nil, NewProblem(http.StatusNotAcceptable, CodeNotAcceptable,
			"Accept must have one of "+strings.Join(offers, ", "))
	}
	return media, parameters, nil
}

// AsksForExport reports whether a request asks for what is streamed: a list or statement in a form without pages.
func AsksForExport(r *http.Request) bool {
	media, _, err := Accepted(r, JSON, CSV, Ledger)
	return err == nil && media != JSON && (r.Method == http.MethodGet || r.Method == http.MethodHead)
}

// WriteList answers with a list, newest first: with a page of it as JSON, or with all of it as CSV. read reads at most
// limit rows below a position, and returns the position where the list goes on, or 0 at its end. item makes of a row
// what is shown of it.
func WriteList[Row, Item any](w http.ResponseWriter, r *http.Request,
	read func(ctx context.Context, below int64, limit int) (rows []Row, next int64, err error),
	item func(Row) (Item, error)) error {
	media, _, err := Accepted(r, JSON, CSV)
	if err != nil {
		return err
	}
	page := func(below int64, limit int) (items []Item, next int64, err error) {
		rows, next, err := read(r.Context(), below, limit)
		if err != nil {
			return nil, 0, err
		}
		items = make([]Item, len(rows))
		for i, row := range rows {
			if items[i], err = item(row); err != nil {
				return nil, 0, err
			}
		}
		return items, next, nil
	}
	if media == CSV {
		below := int64(math.MaxInt64)
		return WriteExport(w, r, CSV, CSVPieces(func() (items []Item, more bool, err error) {
			items, below, err = page(below, exportPage)
			return items, below != 0, err
		}))
	}
	below := int64(math.MaxInt64)
	limit, err := Page(r, &below)
	if err != nil {
		return err
	}
	if below < 1 {
		return BadCursor()
	}
	items, next, err := page(below, limit)
	if err != nil {
		return err
	}
	cursor := ""
	if next != 0 {
		if cursor, err = Cursor(r, next); err != nil {
			return err
		}
	}
	w.Header().Add("Vary", "Accept")
	return WriteJSON(w, http.StatusOK, NewList(items, cursor))
}

// WriteExport answers with pieces, one after another, of which each is in memory only until it is sent. Before the
// first one, an error is answered as any other. Later ones break the connection: only so the client can tell that the
// answer is not whole. An export ends with its client, and when the server has drained.
func WriteExport(w http.ResponseWriter, r *http.Request, contentType string, pieces iter.Seq2[[]byte, error]) error {
	for _, name := range []string{"limit", "cursor"} {
		if r.URL.Query().Has(name) {
			return contract.Invalid(name, "does not go with Accept: %s, which comes without pages", contentType)
		}
	}
	if x, _ := r.Context().Value(exchangeKey{}).(*exchange); x != nil {
		defer x.observer.exports.Add(-1)
		if x.observer.exports.Add(1) > maxExports {
			return Overloaded("too many exports are made at the moment; try again later")
		}
	}
	out, err := NewStream(w, r)
	if err != nil {
		return err
	}
	defer out.End()
	begun := false
	for piece, err := range pieces {
		if err == nil {
			err = r.Context().Err()
		}
		if err != nil {
			return err
		}
		if !begun {
			begun = true
			header := w.Header()
			header.Set("Content-Type", contentType+"; charset=utf-8")
			header.Set("Cache-Control", "no-store")
			header.Set("X-Accel-Buffering", "no")
			header.Set("X-Content-Type-Options", "nosniff")
			header.Add("Vary", "Accept")
			w.WriteHeader(http.StatusOK)
			if r.Method == http.MethodHead {
				return nil
			}
		}
		if len(piece) == 0 {
			continue
		}
		if _, err := out.Write(piece); err != nil {
			return err
		}
	}
	return nil
}
