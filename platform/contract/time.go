package contract

import (
	"errors"
	"time"
)

// Time is a point in time as it is written everywhere: RFC 3339 in UTC, always with six digits of a second, so that
// times sort as text. It is read with any offset and any number of digits.
type Time time.Time

// TimeFormat is how a Time in UTC is written, for time.Format.
const TimeFormat = "2006-01-02T15:04:05.000000Z"

var errYear = errors.New("a time is not in the years 0 to 9999")

// MarshalText writes the time, cut to microseconds. encoding/json checks less of it than of what a MarshalJSON writes.
func (t Time) MarshalText() ([]byte, error) {
	utc := time.Time(t).UTC()
	if year := utc.Year(); year < 0 || year > 9999 {
		return nil, errYear
	}
	const nanoseconds = 3 // digits that AppendFormat writes first and cuts off
	return utc.AppendFormat(make([]byte, 0, len(TimeFormat)+nanoseconds), TimeFormat), nil
}

// UnmarshalJSON reads a time.
func (t *Time) UnmarshalJSON(text []byte) error { return (*time.Time)(t).UnmarshalJSON(text) }

// IsZero reports whether there is no time, for omitzero.
func (t Time) IsZero() bool { return time.Time(t).IsZero() }

// String is the time as in JSON.
func (t Time) String() string { return time.Time(t).UTC().Format(TimeFormat) }
