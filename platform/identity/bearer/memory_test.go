package bearer

import (
	"crypto/rsa"
	"encoding/binary"
	"math/big"
	"testing"
)

// What was verified while the keys changed may have been verified by a key that was withdrawn.
func TestWhatIsVerifiedMeanwhileIsForgotten(t *testing.T) {
	var m memory
	var token digest
	_, _, before := m.get(token)
	m.clear()
	m.put(token, verified{}, before)
	_, ok, now := m.get(token)
	if ok {
		t.Error("it is remembered")
	}
	m.put(token, verified{}, now)
	if _, ok, _ := m.get(token); !ok {
		t.Error("the next one is not remembered")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var m memory
	for n := range uint64(5 * remembered) {
		var token digest
		binary.BigEndian.PutUint64(token[:], n)
		m.put(token, verified{}, 0)
		if _, ok, _ := m.get(token); !ok || len(m.young)+len(m.older) > 2*remembered {
			t.Fatalf("%d tokens, the last one %t", len(m.young)+len(m.older), ok)
		}
	}
}

// A key so large that each token would cost a lot is not taken.
func TestLargeKeysAreNotFit(t *testing.T) {
	one := big.NewInt(1)
	for bits, want := range map[uint]bool{2047: false, 2048: true, 8192: true, 8193: false} {
		if got := fit(&rsa.PublicKey{N: new(big.Int).Lsh(one, bits-1), E: 65537}); got != want {
			t.Errorf("RSA of %d bits: %t", bits, got)
		}
	}
}
