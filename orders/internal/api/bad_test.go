package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

// with is the valid body with one field more, or another value of it.
func with(field, value string) string {
	fields := map[string]string{"account_id": `"` + account + `"`, "amount": `"2500.00"`, "currency": `"RUB"`}
	fields[field] = value
	var parts []string
	for name, value := range fields {
		parts = append(parts, fmt.Sprintf("%q: %s", name, value))
	}
	return `{` + strings.Join(parts, ", ") + `}`
}

// Whatever is sent is answered with a 4xx that names what is wrong, and nothing is placed.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const invalid = httpserver.CodeValidationFailed
	for name, test := range map[string]struct {
		body   string
		status int
		code   string
		field  string
	}{
		"empty":         {" ", 400, httpserver.CodeInvalidJSON, ""},
		"no JSON":       {`{"amount": 1`, 400, httpserver.CodeInvalidJSON, ""},
		"a list":        {`[` + body + `]`, 400, httpserver.CodeInvalidJSON, ""},
		"a string":      {`"x"`, 400, httpserver.CodeInvalidJSON, ""},
		"two objects":   {body + body, 400, httpserver.CodeInvalidJSON, ""},
		"invalid UTF-8": {with("description", "\"\xff\""), 400, httpserver.CodeInvalidJSON, ""},
		"NUL":           {with("description", `"\u0000"`), 400, httpserver.CodeInvalidJSON, ""},
		"nested too deeply": {with("description", strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)), 400,
			httpserver.CodeInvalidJSON, ""},
		"unknown field":        {with("colour", `"red"`), 400, httpserver.CodeUnknownField, "colour"},
		"server's field":       {with("status", `"paid"`), 400, httpserver.CodeUnknownField, "status"},
		"another case":         {with("Amount", `1`), 400, httpserver.CodeUnknownField, "Amount"},
		"nothing":              {`{}`, 400, invalid, "account_id"},
		"account null":         {with("account_id", `null`), 400, invalid, "account_id"},
		"account number":       {with("account_id", `17`), 400, invalid, "account_id"},
		"account no UUID":      {with("account_id", `"17"`), 400, invalid, "account_id"},
		"amount missing":       {with("amount", `null`), 400, invalid, "amount"},
		"amount zero":          {with("amount", `0`), 400, invalid, "amount"},
		"amount negative":      {with("amount", `-1`), 400, invalid, "amount"},
		"amount digits":        {with("amount", `1.001`), 400, invalid, "amount"},
		"amount exponent":      {with("amount", `"1e2"`), 400, invalid, "amount"},
		"amount huge exponent": {with("amount", `1e999999999`), 400, invalid, "amount"},
		"amount tiny exponent": {with("amount", `1e-999999999`), 400, invalid, "amount"},
		"amount twice":         {`{"amount": 1, ` + body[1:], 400, invalid, "amount"},
		"account in braces":    {with("account_id", `"{`+account+`}"`), 400, invalid, "account_id"},
		"account as a URN":     {with("account_id", `"urn:uuid:`+account+`"`), 400, invalid, "account_id"},
		"account undashed": {with("account_id", `"`+strings.ReplaceAll(account, "-", "")+`"`), 400, invalid,
			"account_id"},
		"half a surrogate":   {with("description", `"\ud83d"`), 400, httpserver.CodeInvalidJSON, ""},
		"amount large":       {with("amount", `92233720368547758.08`), 400, invalid, "amount"},
		"amount huge":        {with("amount", strings.Repeat("9", 100_000)), 400, invalid, "amount"},
		"amount true":        {with("amount", `true`), 400, invalid, "amount"},
		"amount object":      {with("amount", `{"value": 1}`), 400, invalid, "amount"},
		"amount words":       {with("amount", `"one"`), 400, invalid, "amount"},
		"currency unknown":   {with("currency", `"QQQ"`), 400, invalid, "currency"},
		"currency long":      {with("currency", `"`+strings.Repeat("R", 100_000)+`"`), 400, invalid, "currency"},
		"currency list":      {with("currency", `["RUB"]`), 400, invalid, "currency"},
		"description long":   {with("description", `"`+strings.Repeat("ы", 1001)+`"`), 400, invalid, "description"},
		"description number": {with("description", `1`), 400, invalid, "description"},
		"reference long":     {with("reference", `"`+strings.Repeat("ы", 201)+`"`), 400, invalid, "reference"},
		"capture unknown":    {with("capture", `"x"`), 400, invalid, "capture"},
		"inventory text":     {with("await_inventory", `"true"`), 400, invalid, "await_inventory"},
		"waiting unknown":    {with("on_insufficient", `"manual"`), 400, invalid, "on_insufficient"},
		"waiting true":       {with("on_insufficient", `true`), 400, invalid, "on_insufficient"},
		"deadline words":     {with("expires_in", `"soon"`), 400, invalid, "expires_in"},
		"deadline short":     {with("expires_in", `"1ms"`), 400, invalid, "expires_in"},
		"deadline long":      {with("expires_in", `"8761h"`), 400, invalid, "expires_in"},
		"deadline negative":  {with("expires_in", `"-1h"`), 400, invalid, "expires_in"},
		"deadline number":    {with("expires_in", `15`), 400, invalid, "expires_in"},
		"more than 1 MiB": {with("description", `"`+strings.Repeat("x", 1<<20)+`"`), 413, httpserver.CodeBodyTooLarge,
			""},
	} {
		for _, path := range []string{"/api/v1/orders", "/api/v1/orders?wait=5s"} {
			a := b.call(t, "POST", path, test.body)
			p := wantProblem(t, a, test.status, test.code)
			if len(a.body) > 2000 {
				t.Errorf("%s: an answer of %d bytes", name, len(a.body))
			}
			if test.field == "" {
				continue
			}
			if len(p.Errors) == 0 || p.Errors[0].Field != test.field || p.Errors[0].Detail == "" {
				t.Errorf("%s: %s", name, a.body)
			}
		}
	}

	for name, test := range map[string]struct {
		headers []string
		status  int
		code    string
	}{
		"no type":     {[]string{"Content-Type", ""}, 415, httpserver.CodeUnsupportedMediaType},
		"text":        {[]string{"Content-Type", "text/plain"}, 415, httpserver.CodeUnsupportedMediaType},
		"compressed":  {[]string{"Content-Encoding", "gzip"}, 415, httpserver.CodeUnsupportedMediaType},
		"empty key":   {[]string{"Idempotency-Key", ""}, 400, invalid},
		"long key":    {[]string{"Idempotency-Key", strings.Repeat("k", 256)}, 400, invalid},
		"unprintable": {[]string{"Idempotency-Key", "a\tb"}, 400, invalid},
	} {
		for _, path := range []string{"/api/v1/orders", "/api/v1/orders/batch"} {
			sent := body
			if strings.HasSuffix(path, "batch") {
				sent = `{"orders": [` + body + `]}`
			}
			t.Log(name)
			wantProblem(t, b.call(t, "POST", path, sent, test.headers...), test.status, test.code)
		}
	}
	for _, wait := range []string{"5", "31s", "-1s", "x", ""} {
		wantProblem(t, b.call(t, "POST", "/api/v1/orders?wait="+wait, body), 400, invalid)
	}

	var orders int
	if err := b.db.Service.Get(&orders, `SELECT count(*) FROM orders`); err != nil || orders != 0 {
		t.Errorf("%v: %d orders were placed", err, orders)
	}
	for _, valid := range []string{with("await_inventory", "false"), with("amount", "2.5e3"),
		with("amount", "250000E-2")} {
		placed := decode[api.Order](t, b.call(t, "POST", "/api/v1/orders", valid), http.StatusCreated)
		if placed.Amount != "2500.00" {
			t.Errorf("%s: %+v", valid, placed)
		}
	}
}
