package telemetry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"
)

// traceparentLen is the length of a W3C trace context header of version 00: 00-<32 hex>-<16 hex>-<2 hex>.
const traceparentLen = 55

// ParseTraceparent checks a traceparent header (https://www.w3.org/TR/trace-context/) and returns it in the form of
// version 00, always 55 characters. Of a later version it keeps the fields that version 00 knows, as the standard asks.
func ParseTraceparent(s string) (string, bool) {
	if len(s) < traceparentLen || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return "", false
	}
	version, traceID, parentID, flags := s[:2], s[3:35], s[36:52], s[53:traceparentLen]
	if strings.Trim(version+traceID+parentID+flags, "0123456789abcdef") != "" ||
		version == "ff" || strings.Trim(traceID, "0") == "" || strings.Trim(parentID, "0") == "" {
		return "", false
	}
	if len(s) > traceparentLen && (version == "00" || s[traceparentLen] != '-') {
		return "", false
	}
	return "00" + s[2:traceparentLen], true
}

// NewTraceparent starts a trace: random IDs, sampled.
func NewTraceparent() string {
	var ids [24]byte
	binary.BigEndian.PutUint64(ids[0:], rand.Uint64())
	binary.BigEndian.PutUint64(ids[8:], rand.Uint64()|1) // An ID of zeros is not valid.
	binary.BigEndian.PutUint64(ids[16:], rand.Uint64()|1)

	return "00-" + hex.EncodeToString(ids[:16]) + "-" + hex.EncodeToString(ids[16:]) + "-01"
}

// TraceID returns the part of a valid traceparent that all its spans share, or "" of anything else.
func TraceID(traceparent string) string {
	if len(traceparent) != traceparentLen {
		return ""
	}
	return traceparent[3:35]
}

type traceparentKey struct{}

// WithTraceparent returns a context that carries a traceparent, such as one that came with a message.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	return context.WithValue(ctx, traceparentKey{}, traceparent)
}

// Traceparent returns the traceparent that ctx carries, or "".
func Traceparent(ctx context.Context) string {
	traceparent, _ := ctx.Value(traceparentKey{}).(string)
	return traceparent
}
