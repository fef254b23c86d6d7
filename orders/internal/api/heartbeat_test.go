package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"slices"
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
		a, changes := &API{currencies: currencies}, hub.Subscribe(id)
		client, began := new(body), time.Now()
		change := func(after time.Duration, version int64, status order.Status) {
			time.AfterFunc(after, func() {
				hub.Publish(id, order.Order{ID: id, Currency: "RUB", Version: version,
					Status: status})
			})
		}
		change(100*time.Second, 2, order.Authorized)
		change(200*time.Second, 3, order.Paid)
		o := order.Order{ID: id, Currency: "RUB", Version: 1, Status: order.Pending}
		if err := a.follow(t.Context(), client, o, changes.Changes()); err != nil {
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
		if !slices.Equal(events, []time.Duration{0, 100 * time.Second, 200 * time.Second}) || len(client.texts) > 20 {
			t.Errorf("events at %v, texts %q", events, client.texts)
		}
	})
}

type lost struct{}

func (lost) Write([]byte) (int, error) { return 0, errors.New("the client is gone") }

func TestStreamEndsWhenItCannotBeWritten(t *testing.T) {
	currencies, err := money.LoadCurrencies("")
	if err != nil {
		t.Fatal(err)
	}
	a, o := &API{currencies: currencies}, order.Order{Currency: "RUB", Version: 1, Status: order.Pending}
	if err := a.follow(t.Context(), lost{}, o, nil); err == nil {
		t.Error("it went on")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.follow(ctx, new(body), o, nil); err != nil {
		t.Error(err)
	}
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
