package order

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
)

var (
	account = uuid.MustParse("0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11")
	noon    = time.Date(2026, 1, 2, 12, 0, 0, 123456789, time.FixedZone("somewhere", 3*3600))
)

func currencies(t testing.TB) *money.Currencies {
	t.Helper()
	table, err := money.LoadCurrencies("")
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func valid() Request {
	return Request{AccountID: account.String(), Amount: "2500.00", Currency: "RUB", Description: "an order",
		Reference: "shop-17"}
}

func TestPlace(t *testing.T) {
	o, err := Place(currencies(t), valid(), noon)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 9, 0, 0, 123456000, time.UTC)
	want := Order{
		AccountID: account, Amount: 250000, Currency: "RUB", Description: "an order", Reference: "shop-17",
		Capture: contract.CaptureAutomatic, OnInsufficient: contract.OnInsufficientReject, Tenant: identity.DefaultTenant,
		Status: Pending, Version: 1, Fingerprint: o.Fingerprint, CreatedAt: at, UpdatedAt: at,
	}
	if !reflect.DeepEqual(o, want) || o.Fingerprint == uuid.Nil {
		t.Errorf("got %+v\nwant %+v", o, want)
	}
}

func TestPlaceTheWholeSaga(t *testing.T) {
	r := valid()
	r.Capture, r.AwaitInventory = contract.CaptureManual, true
	r.OnInsufficient, r.ExpiresIn = contract.OnInsufficientWait, "1m30.0000005s"
	o, err := Place(currencies(t), r, noon)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Date(2026, 1, 2, 9, 1, 30, 123456000, time.UTC)
	if o.Capture != contract.CaptureManual || !o.AwaitInventory || o.OnInsufficient != contract.OnInsufficientWait ||
		o.ExpiresAt == nil || *o.ExpiresAt != deadline {
		t.Errorf("got %+v", o)
	}
	event, err := o.PlacedEvent(currencies(t), false)
	if err != nil || event.ID != contract.EventID(contract.OrderPlacedType, o.ID, 1) ||
		event.Type != contract.OrderPlacedType {
		t.Fatalf("%v: event %+v", err, event)
	}
	var told contract.Order
	if err := json.Unmarshal([]byte(event.Payload), &told); err != nil {
		t.Fatal(err)
	}
	if told.Capture != o.Capture || !told.AwaitInventory || told.OnInsufficient != o.OnInsufficient ||
		!reflect.DeepEqual((*time.Time)(told.ExpiresAt), o.ExpiresAt) {
		t.Errorf("told %+v", told)
	}
}

func TestPlaceNamesEveryBadField(t *testing.T) {
	table := currencies(t)
	for _, test := range []struct {
		name   string
		change func(*Request)
		fields string
	}{
		{"nothing at all", func(r *Request) { *r = Request{} }, "account_id currency amount"},
		{"account is no UUID", func(r *Request) { r.AccountID = "17" }, "account_id"},
		{"account in another form", func(r *Request) { r.AccountID = "urn:uuid:" + r.AccountID }, "account_id"},
		{"account of zeros", func(r *Request) { r.AccountID = uuid.Nil.String() }, "account_id"},
		{"zero", func(r *Request) { r.Amount = "0.00" }, "amount"},
		{"negative", func(r *Request) { r.Amount = "-1" }, "amount"},
		{"too many digits", func(r *Request) { r.Amount = "1.001" }, "amount"},
		{"more than an int64", func(r *Request) { r.Amount = "92233720368547758.08" }, "amount"},
		{"huge", func(r *Request) { r.Amount = money.Decimal(strings.Repeat("9", 100_000)) }, "amount"},
		{"exponent", func(r *Request) { r.Amount = "1e3" }, "amount"},
		{"not a number", func(r *Request) { r.Amount = "NaN" }, "amount"},
		{"unknown currency", func(r *Request) { r.Currency = "QQQ" }, "currency"},
		{"currency in small letters", func(r *Request) { r.Currency = "rub" }, "currency"},
		{"long description", func(r *Request) { r.Description = strings.Repeat("ы", 1001) }, "description"},
		{"long reference", func(r *Request) { r.Reference = strings.Repeat("ы", 201) }, "reference"},
		{"description with U+0000", func(r *Request) { r.Description = "a\x00b" }, "description"},
		{"reference with U+0000", func(r *Request) { r.Reference = "\x00" }, "reference"},
		{"reference not in UTF-8", func(r *Request) { r.Reference = "\xff" }, "reference"},
		{"unknown capture", func(r *Request) { r.Capture = "later" }, "capture"},
		{"capture in capitals", func(r *Request) { r.Capture = "MANUAL" }, "capture"},
		{"unknown on_insufficient", func(r *Request) { r.OnInsufficient = contract.CaptureManual }, "on_insufficient"},
		{"no duration", func(r *Request) { r.ExpiresIn = "soon" }, "expires_in"},
		{"no unit", func(r *Request) { r.ExpiresIn = "15" }, "expires_in"},
		{"zero duration", func(r *Request) { r.ExpiresIn = "0s" }, "expires_in"},
		{"negative duration", func(r *Request) { r.ExpiresIn = "-15m" }, "expires_in"},
		{"short duration", func(r *Request) { r.ExpiresIn = "999ms" }, "expires_in"},
		{"long duration", func(r *Request) { r.ExpiresIn = "8760h0m0.000000001s" }, "expires_in"},
		{"long wait for money", func(r *Request) { r.OnInsufficient, r.ExpiresIn = "wait", "720h0m0.000000001s" },
			"expires_in"},
		{"endless duration", func(r *Request) { r.ExpiresIn = strings.Repeat("9", 100_000) + "h" }, "expires_in"},
		{"several", func(r *Request) { r.Amount, r.Capture, r.ExpiresIn = "x", "y", "z" }, "amount capture expires_in"},
	} {
		r := valid()
		test.change(&r)
		_, err := Place(table, r, noon)
		var invalid contract.FieldErrors
		if !errors.As(err, &invalid) {
			t.Errorf("%s: accepted, or %v", test.name, err)
			continue
		}
		var fields []string
		for _, fault := range invalid {
			fields = append(fields, fault.Field)
		}
		if got := strings.Join(fields, " "); got != test.fields {
			t.Errorf("%s: %v, want %s", test.name, err, test.fields)
		}
	}
}

func TestPlaceAcceptsTheLimits(t *testing.T) {
	for _, change := range []func(*Request){
		func(r *Request) { r.Amount = "92233720368547758.07" },
		func(r *Request) { r.Amount = "0.01" },
		func(r *Request) { r.Description = strings.Repeat("ы", 1000) },
		func(r *Request) { r.Reference = strings.Repeat("ы", 200) },
		func(r *Request) { r.Description, r.Reference = "", "" },
		func(r *Request) { r.ExpiresIn = "1s" },
		func(r *Request) { r.ExpiresIn = "8760h" },
		func(r *Request) { r.OnInsufficient, r.ExpiresIn = "wait", "720h" },
	} {
		r := valid()
		change(&r)
		if _, err := Place(currencies(t), r, noon); err != nil {
			t.Error(err)
		}
	}
}

func TestFingerprintIsOfTheMeaning(t *testing.T) {
	table := currencies(t)
	of := func(change func(*Request)) uuid.UUID {
		r := valid()
		change(&r)
		o, err := Place(table, r, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return o.Fingerprint
	}
	plain := of(func(*Request) {})
	if plain != uuid.MustParse("b0c1f2dc-be44-55ec-8fd7-579f545ea6fb") {
		t.Errorf("%s: fingerprints that are stored already have lost their meaning", plain)
	}
	for name, change := range map[string]func(*Request){
		"amount":  func(r *Request) { r.Amount = "2500" },
		"digits":  func(r *Request) { r.Amount = "2500.0" },
		"case":    func(r *Request) { r.AccountID = strings.ToUpper(r.AccountID) },
		"default": func(r *Request) { r.Capture, r.OnInsufficient = "automatic", "reject" },
	} {
		if of(change) != plain {
			t.Errorf("%s: means the same and has another fingerprint", name)
		}
	}
	deadline := of(func(r *Request) { r.ExpiresIn = "15m" })
	if again := of(func(r *Request) { r.ExpiresIn = "900s" }); again != deadline {
		t.Error("the same deadline in other words has another fingerprint")
	}
	for name, change := range map[string]func(*Request){
		"capture":     func(r *Request) { r.Capture = contract.CaptureManual },
		"inventory":   func(r *Request) { r.AwaitInventory = true },
		"money":       func(r *Request) { r.OnInsufficient = contract.OnInsufficientWait },
		"deadline":    func(r *Request) { r.ExpiresIn = "15m" },
		"account":     func(r *Request) { r.AccountID = uuid.NewString() },
		"amount":      func(r *Request) { r.Amount = "2500.01" },
		"currency":    func(r *Request) { r.Currency = "USD" },
		"description": func(r *Request) { r.Description = "" },
		"reference":   func(r *Request) { r.Reference = "shop-18" },
		"moved text":  func(r *Request) { r.Description, r.Reference = r.Reference, r.Description },
	} {
		if of(change) == plain {
			t.Errorf("%s: means another thing and has the same fingerprint", name)
		}
	}
}

// Both events say whose the order is, and whose the account must be where its client is restricted to what is his.
func TestEventsSayWhoseTheOrderIs(t *testing.T) {
	o, err := Place(currencies(t), valid(), noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		reach                  identity.Reach
		subject, tenant, owner string
	}{
		{identity.Reach{}, "", "default", ""},
		{identity.Default, "alice", "default", ""},
		{identity.Reach{Owner: "alice"}, "alice", "default", "alice"},
		{identity.Reach{Tenant: "shop"}, "alice", "shop", ""},
		{identity.Reach{Tenant: "shop", Owner: "alice"}, "alice", "shop", "alice"},
	} {
		placed := o.For(test.reach, test.subject)
		if placed.Subject != test.subject || placed.Fingerprint != o.Fingerprint {
			t.Errorf("%+v: %+v", test, placed)
		}
		for _, repeated := range []bool{false, true} {
			first, err := placed.PlacedEvent(currencies(t), repeated)
			second, cancelErr := placed.CancelledEvent(currencies(t), "", noon, repeated)
			if err := errors.Join(err, cancelErr); err != nil {
				t.Fatal(err)
			}
			for _, event := range []Event{first, second} {
				var told contract.Order
				if err := json.Unmarshal([]byte(event.Payload), &told); err != nil || event.Tenant != test.tenant ||
					told.Owner != test.owner {
					t.Errorf("%+v: %v, %+v", test, err, event)
				}
			}
		}
	}
}

// An event has everything of its order that whoever places it again is compared by.
func TestAnOrderIsRecalledFromItsEvents(t *testing.T) {
	table := currencies(t)
	whole := valid()
	whole.Capture, whole.AwaitInventory, whole.ExpiresIn = contract.CaptureManual, true, "90m"
	whole.OnInsufficient = contract.OnInsufficientWait
	own := identity.Reach{Tenant: "shop", Owner: "alice"}
	for _, r := range []Request{valid(), whole} {
		for _, reach := range []identity.Reach{{}, own} {
			o, err := Place(table, r, noon)
			if err != nil {
				t.Fatal(err)
			}
			o = o.For(reach, reach.Owner)
			o.ID, o.TraceID = uuid.New(), uuid.New()
			for _, event := range []func() (Event, error){
				func() (Event, error) { return o.PlacedEvent(table, false) },
				func() (Event, error) { return o.CancelledEvent(table, "a note", noon, true) },
			} {
				told, err := event()
				var payload contract.Cancellation
				if err := errors.Join(err, json.Unmarshal([]byte(told.Payload), &payload)); err != nil {
					t.Fatal(err)
				}
				got, err := Recall(table, payload.Order, told.Tenant, o.TraceID)
				if err != nil || !reflect.DeepEqual(got, o) {
					t.Errorf("%v\ngot  %+v\nwant %+v", err, got, o)
				}
			}
		}
	}
	for _, broken := range []contract.Order{{Currency: "ZZZ", Amount: "1"}, {Currency: "RUB", Amount: "one"},
		{Currency: "RUB", Amount: "0.00"}} {
		if o, err := Recall(table, broken, "", uuid.Nil); err == nil {
			t.Errorf("%+v is %+v", broken, o)
		}
	}
}
