// Package telemetry is what an operator sees of a process: its structured log, its metrics, its health, and the traces
// that tie together what one request causes in all processes. Nothing here is global: loggers, registries and tracers
// are made once in main and handed to whoever needs them.
package telemetry

import (
	"context"
	"io"
	"log/slog"

	"github.com/altyn-pay/altyn/platform/config"
)

// Config is the settings of telemetry, which every process has.
type Config struct {
	LogLevel  slog.Level `env:"LOG_LEVEL" default:"info" help:"least level that is logged: debug (every request), info, warn or error"`
	LogFormat string     `env:"LOG_FORMAT" default:"json" help:"form of the log: json or text"`
}

const textFormat = "text"

// Validate checks the format of the log.
func (c Config) Validate() error {
	if c.LogFormat != "" && c.LogFormat != "json" && c.LogFormat != textFormat {
		return &config.Wrong{Name: "LOG_FORMAT", Value: c.LogFormat, Must: "must be json or text"}
	}
	return nil
}

// NewLogger returns a logger whose every line names the service. Durations are in milliseconds, and their names say so.
func NewLogger(w io.Writer, cfg Config, service string) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.LogLevel, ReplaceAttr: inMilliseconds}
	var handler slog.Handler = slog.NewJSONHandler(w, options)
	if cfg.LogFormat == textFormat {
		handler = slog.NewTextHandler(w, options)
	}
	return slog.New(handler).With("service", service)
}

// inMilliseconds writes a duration such as retry_in as retry_in_ms.
func inMilliseconds(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.Float64(a.Key+"_ms", float64(a.Value.Duration().Microseconds())/1000)
	}
	return a
}

// WithTraceID adds the trace of a traceparent to the attributes of a line, if there is one.
func WithTraceID(attributes []any, traceparent string) []any {
	if id := TraceID(traceparent); id != "" {
		attributes = append(attributes, "trace_id", id)
	}
	return attributes
}

// Bounds of what LogEach writes of one batch: lines of their own, and IDs in each further line.
const (
	maxLines = 10
	maxIDs   = 100
)

// LogEach logs what happened to each of n things, each with an ID under key. The first ten get a line with attributes
// each, the others share lines that have their IDs alone. So every ID is in the log, and a batch writes few lines.
func LogEach(log *slog.Logger, level slog.Level, message, key string, n int,
	id func(i int) string, about func(i int) []any) {
	ctx := context.Background()
	if n == 0 || !log.Enabled(ctx, level) {
		return
	}
	for i := range min(n, maxLines) {
		log.Log(ctx, level, message, append([]any{key, id(i)}, about(i)...)...)
	}
	for begin := maxLines; begin < n; begin += maxIDs {
		end := min(n, begin+maxIDs)
		ids := make([]string, 0, end-begin)
		for i := begin; i < end; i++ {
			ids = append(ids, id(i))
		}
		log.Log(ctx, level, message, key+"s", ids)
	}
}
