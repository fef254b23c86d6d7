// Package telemetry is what an operator sees of a process: its structured log, its metrics, its health, and the trace
// context that ties one request's lines together across processes. Nothing here is global: loggers and registries are
// made once in main and handed to whoever needs them.
package telemetry

import (
	"errors"
	"io"
	"log/slog"

	"github.com/altyn-pay/altyn/platform/config"
)

// Config are the settings every process has.
type Config struct {
	LogLevel    slog.Level `env:"LOG_LEVEL" envDefault:"info" help:"least level that is logged: debug (every request), info, warn or error"`
	LogFormat   LogFormat  `env:"LOG_FORMAT" envDefault:"json" help:"form of the log: json or text"`
	ProfileAddr string     `env:"PPROF_ADDR" help:"address for profiles of the Go runtime, such as 127.0.0.1:6060 (default: none)"`
}

// Validate checks the address.
func (c Config) Validate() error {
	if c.ProfileAddr == "" {
		return nil
	}
	return config.CheckAddr("PPROF_ADDR", c.ProfileAddr)
}

// LogFormat is how a log line is written; the zero value is JSON.
type LogFormat string

// The formats of the log.
const (
	LogJSON LogFormat = "json"
	LogText LogFormat = "text"
)

// UnmarshalText accepts the known formats.
func (f *LogFormat) UnmarshalText(text []byte) error {
	switch format := LogFormat(text); format {
	case LogJSON, LogText:
		*f = format
		return nil
	}
	return errors.New("must be json or text")
}

// NewLogger returns a logger whose every line names the service.
func NewLogger(w io.Writer, cfg Config, service string) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	var handler slog.Handler = slog.NewJSONHandler(w, options)
	if cfg.LogFormat == LogText {
		handler = slog.NewTextHandler(w, options)
	}
	return slog.New(handler).With("service", service)
}
