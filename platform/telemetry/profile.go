package telemetry

import (
	"net/http"
	"net/http/pprof"
	"os"
	"runtime/debug"
)

// ProfileHandler serves the profiles of the Go runtime under /debug/pprof/. They tell much of a process, so they get an
// address of their own.
func ProfileHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	return mux
}

// TuneGC lets garbage grow to four times what lives before it is collected, which saves a tenth of the CPU for some 20 MB:
// requests leave much garbage and little that lives. The limit, which is soft, keeps thousands of open streams from
// multiplying their memory so. GOGC and GOMEMLIMIT, where they are set, stand.
func TuneGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(256 << 20)
	}
}
