package main

import (
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
)

// login is the page on which a person says who he is. Nobody checks it.
type login struct {
	store    *store
	issuer   string
	callback func(ctx context.Context, request string) string // where a request goes on
}

//go:embed login.html
var loginHTML string

var loginPage = template.Must(template.New("login").Parse(loginHTML))

// form is what the page shows.
type form struct {
	ID, Client, Subject, Tenant, Wrong string
	Scopes                             []string
}

func (l *login) welcome(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, `An issuer of tokens for development. Whoever reaches it gets whatever token he asks for:

  curl -s -u alice@shop:any -d grant_type=client_credentials -d 'scope=orders:write orders:read' %s/oauth/token

What it serves: %[1]s/.well-known/openid-configuration
`, l.issuer)
}

func (l *login) show(w http.ResponseWriter, r *http.Request) {
	l.write(w, http.StatusOK, form{ID: r.FormValue("id"), Subject: "alice", Tenant: "default"})
}

// post takes what the person says, and goes on with the request.
func (l *login) post(w http.ResponseWriter, r *http.Request) {
	f := form{ID: r.PostFormValue("id"), Subject: r.PostFormValue("subject"), Tenant: r.PostFormValue("tenant")}
	who := person{subject: f.Subject, tenant: f.Tenant}
	if err := who.check(); err != nil {
		f.Wrong = err.Error()
		l.write(w, http.StatusUnprocessableEntity, f)
		return
	}
	if err := l.store.change(f.ID, func(r *request) { r.who = who }); err != nil {
		l.gone(w)
		return
	}
	http.Redirect(w, r, l.callback(r.Context(), f.ID), http.StatusSeeOther)
}

func (l *login) write(w http.ResponseWriter, status int, f form) {
	asked, err := l.store.find(func(r request) bool { return r.id == f.ID })
	if err != nil {
		l.gone(w)
		return
	}
	f.Client, f.Scopes = asked.ClientID, asked.Scopes
	var page strings.Builder
	if err := loginPage.Execute(&page, f); err != nil {
		http.Error(w, "the page cannot be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	fmt.Fprint(w, page.String())
}

func (l *login) gone(w http.ResponseWriter) {
	http.Error(w, fmt.Sprintf("Nobody waits for this login any more (it has %s): start again where you came from.",
		requestTimeout), http.StatusNotFound)
}
