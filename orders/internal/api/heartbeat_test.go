package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/watch"
)

// body is what a client gets, and when.
type body struct {
	texts []string
	times []time.Time
}

func (b *body) Write(p []byte) (int, error) {
	b.texts, b.times = append(b.texts, string(p)), append(b.times, time.Now())
	return len(p), nil
}

func TestStreamIsNeverSilentForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		currencies, err := money.LoadCurrencies("")
		if err != nil {
			t.Fatal(err)
		}
		hub := watch.New(slog.New(slog.DiscardHandler), func(o order.Order) int64 { return o.Version }, nil)
		id := uuid.New()
		s := &stream{api: &API{currencies: currencies}, changes: hub.Subscribe(id)}
		client, began := new(body), time.Now()
		change := func(after time.Duration, version int64, status order.Status) {
			time.AfterFunc(after, func() {
				hub.Publish(id, order.Order{ID: id, Currency: "RUB", Version: version,
					Status: status})
			})
		}
		change(100*time.Second, 2, order.Authorized)
		change(200*time.Second, 3, order.Paid)
		if err := s.follow(t.Context(), client); err != nil {
			t.Error(err)
		}
		last := began
		var events []time.Duration
		for i, text := range client.texts {
			at := client.times[i]
			if silence := at.Sub(last); silence > heartbeat {
				t.Errorf("silent for %s", silence)
			}
			last = at
			if text != ":\n\n" {
				events = append(events, at.Sub(began))
			}
		}
		if len(events) != 2 || events[0] != 100*time.Second || events[1] != 200*time.Second || len(client.texts) > 20 {
			t.Errorf("events at %v, texts %q", events, client.texts)
		}
	})
}

type lost struct{}

func (lost) Write([]byte) (int, error) { return 0, errors.New("the client is gone") }

func TestStreamEndsWhenItCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := watch.New(slog.New(slog.DiscardHandler), func(o order.Order) int64 { return o.Version }, nil)
		s := &stream{api: &API{}, changes: hub.Subscribe(uuid.New())}
		if err := s.follow(t.Context(), lost{}); err == nil {
			t.Error("it went on")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.follow(ctx, new(body)); err != nil {
			t.Error(err)
		}
	})
}

func TestTheNumberOfStreamsIsBounded(t *testing.T) {
	a := new(API)
	a.streams.Store(maxStreams)
	router := chi.NewRouter()
	router.Get("/{id}", httpserver.Handle(a.stream))
	recorder := httptest.NewRecorder()
	router.ServeHTTP(recorder, httptest.NewRequest("GET", "http://localhost/"+uuid.NewString(), nil))
	if recorder.Code != 503 || !strings.Contains(recorder.Body.String(), httpserver.CodeUnavailable) ||
		recorder.Header().Get("Retry-After") == "" {
		t.Errorf("got %d %s", recorder.Code, recorder.Body)
	}
	if n := a.streams.Load(); n != maxStreams {
		t.Errorf("%d are counted afterwards", n)
	}
}
