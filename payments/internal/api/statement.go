package api

import (
	"cmp"
	"context"
	"iter"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/money"
)

// exportPage is how many entries of a statement are read at once where it is not asked for in pages.
const exportPage = 1000

// listEntries is an account's statement.
//
//	@ID				listEntries
//	@Summary		The statement of an account, oldest entry first
//	@Description	Entries are numbered per currency without gaps. A statement in several currencies is in the order of time.
//	@Description	With Accept: text/csv, or text/x-ledger for a journal that hledger and beancount read, it is streamed whole,
//	@Description	as far as it goes when it is asked for, without limit and cursor.
//	@Tags			accounts
//	@Produce		json,text/csv,text/x-ledger,application/problem+json
//	@Param			id		path		string	true	"ID of the account"	format(uuid)	example(01a0a3c5-96a1-7c4e-8d7c-6a1f0e9f2b11)
//	@Param			from	query		string	false	"only entries from this time on (RFC 3339)"	format(date-time)
//	@Param			to		query		string	false	"only entries before this time (RFC 3339)"	format(date-time)
//	@Param			limit	query		int		false	"1–200, default 50"
//	@Param			cursor	query		string	false	"next_cursor of the page before"
//	@Success		200		{object}	httpserver.List[Entry]
//	@Failure		404		{object}	httpserver.Problem	"account_not_found"
//	@Failure		406		{object}	httpserver.Problem	"not_acceptable"
//	@Router			/api/v1/accounts/{id}/entries [get]
func (a *API) listEntries(w http.ResponseWriter, r *http.Request) error {
	media, asked, err := httpserver.Accepted(r, httpserver.JSON, httpserver.CSV, httpserver.Ledger)
	if err != nil {
		return err
	}
	// The position is the last number seen of each currency.
	seen := map[string]int64{}
	limit, err := httpserver.Page(r, &seen)
	if err != nil {
		return err
	}
	for _, number := range seen {
		if number < 1 {
			return httpserver.BadCursor()
		}
	}
	from, to, err := httpserver.TimesParam(r)
	if err != nil {
		return err
	}
	account, err := a.accountOf(r)
	if err != nil {
		return err
	}
	span, err := a.store.Span(r.Context(), account, seen, from, to)
	if err != nil {
		return err
	}
	next := func() (page []Entry, more bool, err error) {
		rows, err := a.store.Entries(r.Context(), account, span, exportPage)
		if err == nil {
			page, err = each(rows, a.entry)
		}
		return page, len(rows) == exportPage, err
	}
	switch media {
	case httpserver.CSV:
		return httpserver.WriteExport(w, r, media, httpserver.CSVPieces(next))
	case httpserver.Ledger:
		j := journal{account: account.ID}
		switch dialect := asked["dialect"]; dialect {
		case "", "hledger":
		case "beancount":
			j.bare, media = true, media+"; dialect=beancount"
		default:
			return httpserver.NewProblem(http.StatusNotAcceptable, httpserver.CodeNotAcceptable,
				"the dialects of text/x-ledger are hledger and beancount")
		}
		if err := j.open(r.Context(), a, account, from); err != nil {
			return err
		}
		return httpserver.WriteExport(w, r, media, j.pieces(r.Context(), a, account, span))
	}
	rows, err := a.store.Entries(r.Context(), account, span, limit+1)
	if err != nil {
		return err
	}
	more := len(rows) > limit
	rows = rows[:min(limit, len(rows))]
	items, err := each(rows, a.entry)
	if err != nil {
		return err
	}
	cursor := ""
	if more {
		for _, e := range rows {
			seen[e.Currency] = e.Number
		}
		if cursor, err = httpserver.Cursor(r, seen); err != nil {
			return err
		}
	}
	w.Header().Add("Vary", "Accept")
	return httpserver.WriteJSON(w, http.StatusOK, httpserver.NewList(items, cursor))
}

// journal writes a statement as plain-text accounting. One text serves hledger and beancount: to hledger an account
// that is opened is a transaction without postings, and what is known beside is in comments to both. Actual and frozen
// money are two accounts; what the other side of an operation is, is a third one, of this statement alone: so the
// statements of several accounts may be read together.
type journal struct {
	account uuid.UUID
	bare    bool // a currency with digits is written without quotation marks, as beancount wants it
	buf     []byte
}

// The accounts of a journal, below the one that the statement is of.
const (
	actual, frozen               = "Assets:Account-%:Actual", "Assets:Account-%:Frozen"
	opening                      = "Equity:Account-%:Opening"
	others                       = "Equity:Account-%:Other"
	external, revenue, transfers = "Equity:Account-%:External", "Equity:Account-%:Revenue", "Equity:Account-%:Transfers"
)

// otherSide is where the money of an operation comes from or goes to, which is nowhere for the others.
var otherSide = map[ledger.Kind]string{
	ledger.KindDeposit: external, ledger.KindWithdrawal: external, ledger.KindTransfer: transfers,
	ledger.KindPayment: revenue, ledger.KindCapture: revenue, ledger.KindRefund: revenue,
}

// open opens the accounts. A statement from a time on begins with the balances before it.
func (j *journal) open(ctx context.Context, a *API, account postgres.Account, from *time.Time) error {
	for _, name := range []string{actual, frozen, opening, external, revenue, transfers, others} {
		j.write("1970-01-01 open ", j.name(name), "\n")
	}
	if from == nil {
		return nil
	}
	balances, err := a.store.BalancesAt(ctx, account, from.Add(-time.Microsecond))
	for _, b := range balances {
		currency, err := a.present.Currency(b.Currency)
		if err != nil {
			return err
		}
		j.write("\n", date(*from), " * \"balance before\"\n")
		j.postings(currency, b.Actual, b.Frozen, opening)
	}
	return err
}

// pieces are the journal, with what is written of it already.
func (j *journal) pieces(ctx context.Context, a *API, account postgres.Account, span postgres.Span) iter.Seq2[
	[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for more := true; more; {
			rows, err := a.store.Entries(ctx, account, span, exportPage)
			for i := 0; err == nil && i < len(rows); i++ {
				err = j.entry(a, rows[i])
			}
			if !yield(j.buf, err) || err != nil {
				return
			}
			j.buf, more = j.buf[:0], len(rows) == exportPage
		}
	}
}

func date(at time.Time) string { return at.UTC().Format(time.DateOnly) }

// entry writes an entry as a transaction.
func (j *journal) entry(a *API, e postgres.Entry) error {
	currency, err := a.present.Currency(e.Currency)
	if err != nil {
		return err
	}
	what := string(e.Operation)
	if e.Description != "" {
		what += ": " + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(line(e.Description))
	}
	j.write("\n", date(e.CreatedAt), ` * "`, what, "\"\n  ; at: ", contract.Time(e.CreatedAt).String(),
		", operation: ", e.OperationID.String())
	if e.OrderID != uuid.Nil {
		j.write(", order: ", e.OrderID.String())
	}
	for _, tag := range []struct{ name, text string }{{"reference", e.Reference}, {"note", e.Note}} {
		if tag.text != "" {
			j.write("\n  ; ", tag.name, ": ", line(tag.text))
		}
	}
	j.write("\n")
	j.postings(currency, e.Amount, e.Frozen, cmp.Or(otherSide[e.Operation], others))
	return nil
}

// postings writes the postings of a transaction that are not zero; together they are.
func (j *journal) postings(currency money.Currency, changed, set int64, other string) {
	code := currency.Code
	if !j.bare && strings.ContainsAny(code, "0123456789") {
		code = `"` + code + `"`
	}
	for _, p := range []struct {
		account string
		amount  int64
	}{{actual, changed}, {frozen, set}, {other, -changed - set}} {
		if p.amount != 0 {
			j.write("  ", j.name(p.account), "  ", currency.Format(p.amount), " ", code, "\n")
		}
	}
}

func (j *journal) name(account string) string {
	return strings.Replace(account, "%", j.account.String(), 1)
}

func (j *journal) write(texts ...string) {
	for _, text := range texts {
		j.buf = append(j.buf, text...)
	}
}

// line is a text in one line, without anything that a program could take for its end.
func line(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == '\u2028' || c == '\u2029' {
			return ' '
		}
		return c
	}, text)
}

// each makes of each row what is shown of it.
func each[Row, Item any](rows []Row, item func(Row) (Item, error)) (items []Item, err error) {
	items = make([]Item, len(rows))
	for i, row := range rows {
		if items[i], err = item(row); err != nil {
			return nil, err
		}
	}
	return items, nil
}
