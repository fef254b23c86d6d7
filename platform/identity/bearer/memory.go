package bearer

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/altyn-pay/altyn/platform/identity"
)

// remembered is how many tokens a half of the memory has room for.
const remembered = 8192

type digest = [sha256.Size]byte

// memory keeps who asks with tokens that were verified, so that a token is verified once and not with each request.
// It is bounded: it consists of two halves, and forgets the older one when the younger is full.
type memory struct {
	mu           sync.RWMutex
	young, older map[digest]verified
	generation   int // of the keys
}

// verified is a token's content.
type verified struct {
	identity.Identity
	from time.Time
}

// at returns who asks with the token at some time.
func (v verified) at(at time.Time) bool { return !at.Before(v.from) && at.Before(v.Expires) }

// get finds a token. generation must be given to put when the token is verified now.
func (m *memory) get(token digest) (v verified, ok bool, generation int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if v, ok = m.young[token]; !ok {
		v, ok = m.older[token]
	}
	return v, ok, m.generation
}

// put keeps a token, unless it was verified with keys that have changed.
func (m *memory) put(token digest, v verified, generation int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if generation != m.generation {
		return
	}
	if len(m.young) >= remembered || m.young == nil {
		m.young, m.older = make(map[digest]verified), m.young
	}
	m.young[token] = v
}

// clear forgets everything: a key may have been withdrawn.
func (m *memory) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.young, m.older = nil, nil
	m.generation++
}
