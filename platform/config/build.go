package config

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"runtime/debug"
)

// version is the release that this code will become. A release build sets it:
// go build -ldflags '-X github.com/altyn-pay/altyn/platform/config.version=0.1.0'.
var version = "0.1.0-dev"

// revision is the commit. The linker sets it in the same way for images, whose build sees no repository.
var revision = ""

// Build says what a program was built from.
type Build struct {
	Version  string `json:"version" example:"0.1.0"`
	Revision string `json:"revision,omitempty" example:"4f0c2b9a7d31"` // the commit; with -dirty where files differed from it
	Go       string `json:"go" example:"go1.26.0"`
}

// ThisBuild returns what this program was built from.
func ThisBuild() Build {
	b := Build{Version: version, Revision: revision}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	if b.Revision != "" {
		return b
	}
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	b.Revision = settings["vcs.revision"]
	if b.Revision = b.Revision[:min(len(b.Revision), 12)]; b.Revision != "" && settings["vcs.modified"] == "true" {
		b.Revision += "-dirty"
	}
	return b
}

func (b Build) String() string {
	text := b.Version
	if b.Revision != "" {
		text += " (" + b.Revision + ")"
	}
	return text + " " + b.Go
}

// ServeHTTP answers with the build, for GET /version.
func (b Build) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(b) // A client that is gone misses nothing.
}

// Announce writes a program's first log line, with its build and the settings in force (never a secret).
func Announce[T any](log *slog.Logger, cfg T) {
	build := ThisBuild()
	log.LogAttrs(context.Background(), slog.LevelInfo, "starting",
		slog.String("version", build.Version), slog.String("revision", build.Revision), slog.String("go", build.Go),
		slog.GroupAttrs("settings", effective(cfg)...))
}
