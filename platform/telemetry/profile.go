package telemetry

import (
	"net/http"
	"net/http/pprof"
)

// ProfileHandler serves the profiles of the Go runtime under /debug/pprof/. They reveal much, so they get an address of
// their own.
func ProfileHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	return mux
}
