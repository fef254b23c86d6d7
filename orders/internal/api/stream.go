package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
)

const (
	// maxStreams bounds the open streams of a process; one more is answered 503.
	maxStreams = 20_000
	// heartbeat is how long a stream is silent at most, so that proxies keep it open.
	heartbeat = 15 * time.Second
)

var errTooManyStreams = errors.New("too many streams are open")

// stream tells of an order's changes as they happen.
//
//	@ID				streamOrder
//	@Summary		Follow an order's status
//	@Description	A stream of server-sent events (text/event-stream): one with the present state at once, and one after
//	@Description	each change, each with event: status, the order as GET gives it in data: and its version in id:. Changes
//	@Description	that follow each other closely may come as one. The stream ends after an event with a final status:
//	@Description	paid, failed or cancelled, and when the token expires. One that ends before its final event is to be
//	@Description	opened again, as browsers do. Who comes back with Last-Event-ID after the final event gets 204, on which
//	@Description	browsers stop. Comments keep the connection alive.
//	@Tags			orders
//	@Produce		text/event-stream,application/problem+json
//	@Param			id				path		string				true	"the order's ID"	format(uuid)
//	@Param			Last-Event-ID	header		string				false	"id of the last event that was received"
//	@Success		200				{object}	Order				"in each event's data"
//	@Success		204				"the final event was received before"
//	@Failure		404				{object}	httpserver.Problem	"order_not_found"
//	@Failure		500				{object}	httpserver.Problem	"internal"
//	@Router			/api/v1/orders/{id}/stream [get]
func (a *API) stream(w http.ResponseWriter, r *http.Request) error {
	id, err := httpserver.PathUUID(r, "id")
	if err != nil {
		return err
	}
	defer a.streams.Add(-1)
	if a.streams.Add(1) > maxStreams {
		return httpserver.Unavailable(errTooManyStreams)
	}
	changes := a.changes.Subscribe(id) // before the order is read, so that no change is missed
	defer changes.Close()
	ctx, cancel := identity.UntilExpired(r.Context())
	defer cancel()
	o, err := a.store.Order(ctx, identity.ReachFrom(ctx), id)
	if err != nil {
		return err
	}
	if ends(o.Status) && r.Header.Get("Last-Event-ID") == eventID(o) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	changes.Seen(o)
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // so that nginx passes on each event at once
	header.Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	out, err := httpserver.NewStream(w, r)
	if err != nil {
		return err
	}
	defer out.End()
	return a.follow(ctx, out, o, changes.Changes())
}

// follow sends the order as it is, and again after each change. When it ends before the final status, because the token
// has expired for instance, the client opens the stream again.
func (a *API) follow(ctx context.Context, out io.Writer, o order.Order, changes <-chan order.Order) error {
	// Streams that were opened together do not send their heartbeats together.
	silence := time.NewTimer(rand.N(heartbeat))
	defer silence.Stop()
	event, err := a.event(o)
	for err == nil {
		if _, err := out.Write(event); err != nil || ends(o.Status) {
			return err
		}
		select {
		case o = <-changes:
			event, err = a.event(o)
		case <-silence.C:
			event = []byte(":\n\n")
		case <-ctx.Done():
			return nil
		case <-httpserver.Draining(ctx).Done():
			return nil
		}
		silence.Reset(heartbeat)
	}
	return err
}

// ends reports whether a stream ends after this status. A paid order changes only when somebody refunds or cancels it.
func ends(s order.Status) bool { return s == order.Paid || s.Final() }

func eventID(o order.Order) string { return strconv.FormatInt(o.Version, 10) }

// event encodes the order as an event of the stream.
func (a *API) event(o order.Order) ([]byte, error) {
	answer, err := a.json(o)
	if err != nil {
		return nil, err
	}
	text := bytes.NewBufferString("event: status\nid: " + eventID(o) + "\ndata: ")
	encoder := json.NewEncoder(text)
	encoder.SetEscapeHTML(false) // as everywhere else
	if err := encoder.Encode(answer); err != nil {
		return nil, fmt.Errorf("encode the event: %w", err)
	}
	text.WriteByte('\n') // after that of the encoder: an empty line ends the event
	return text.Bytes(), nil
}
