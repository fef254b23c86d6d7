package order

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

func TestCancelFromEveryStatus(t *testing.T) {
	for _, from := range Statuses() {
		before := pendingOrder()
		before.Status, before.Reason, before.Version, before.Captured = from, "before", 3, 700
		o := before
		transition, err := o.Cancel("the client changed its mind", noon.Add(time.Second))
		switch from {
		case Failed:
			if !errors.Is(err, ErrFailed) || transition != nil || !reflect.DeepEqual(o, before) {
				t.Errorf("%s: %v, %+v", from, err, o)
			}
		case Cancelling, Cancelled:
			if err != nil || transition != nil || !reflect.DeepEqual(o, before) {
				t.Errorf("%s: %v, %+v", from, err, o)
			}
		default:
			after := before
			after.Status, after.Reason, after.Note = Cancelling, "cancelled", "the client changed its mind"
			after.Version, after.UpdatedAt = 4, utc(noon.Add(time.Second))
			if err != nil || !reflect.DeepEqual(o, after) {
				t.Errorf("%s: %v, %+v", from, err, o)
			}
			if transition == nil || *transition != (Transition{
				OrderID: o.ID, Number: 4, At: after.UpdatedAt, From: from, To: Cancelling, Reason: "cancelled",
				Note:    "the client changed its mind",
				EventID: uuid.NullUUID{UUID: contract.EventID(contract.OrderCancelledType, o.ID, 1), Valid: true},
			}) {
				t.Errorf("%s: transition %+v", from, transition)
			}
		}
	}
}

// The event carries everything that order.placed does, so that a payment can be made of it alone.
func TestCancelledCarriesTheWholeOrder(t *testing.T) {
	r := valid()
	r.Capture, r.AwaitInventory = contract.CaptureManual, true
	r.OnInsufficient, r.ExpiresIn = contract.OnInsufficientWait, "1h"
	o, err := Place(currencies(t), r, noon)
	if err != nil {
		t.Fatal(err)
	}
	o.ID = pendingOrder().ID
	fields := func(event Event, err error) map[string]any {
		if err != nil || event.OrderID != o.ID || event.AccountID != o.AccountID {
			t.Fatalf("%v: event %+v", err, event)
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(event.Payload), &fields); err != nil {
			t.Fatal(err)
		}
		return fields
	}
	want := fields(o.PlacedEvent(currencies(t), false))
	want["reason"], want["note"], want["cancelled_at"] = "cancelled", "why", "2026-01-02T09:01:00.123456Z"
	transition, err := o.Cancel("why", noon.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	got := fields(o.CancelledEvent(currencies(t), transition.Note, transition.At, false))
	if !reflect.DeepEqual(got, want) || len(got) != 14 {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestCancellationFingerprint(t *testing.T) {
	if got := CancellationFingerprint("why"); got != CancellationFingerprint("why") || got == CancellationFingerprint("") {
		t.Error("it does not tell requests apart")
	}
	if got := CancellationFingerprint(""); got != uuid.MustParse("604c6bf8-20dc-5981-9803-5383cecfe1e4") {
		t.Errorf("%s: fingerprints that are stored already have lost their meaning", got)
	}
}
