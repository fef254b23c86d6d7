package bearer

import "time"

// SetPause sets the least time between two fetches that tokens cause. Call it before Run.
func (v *Verifier) SetPause(pause time.Duration) {
	for _, i := range v.issuers {
		i.pause = pause
	}
}
