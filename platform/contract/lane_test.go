package contract

import (
	"testing"

	"github.com/google/uuid"
)

// The vectors are those of Apache Kafka's own UtilsTest.testMurmur2.
func TestMurmur2IsKafkas(t *testing.T) {
	for text, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(text))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", text, got, want)
		}
	}
}

// Lanes are stored with every row: they must never change, and must spread evenly.
func TestLane(t *testing.T) {
	if got := Lane(uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057")); got != 61 {
		t.Errorf("the lane is %d", got)
	}
	var lanes [Lanes]int
	for range 64_000 {
		lanes[Lane(uuid.New())]++
	}
	for lane, n := range lanes {
		if n < 800 || n > 1200 {
			t.Errorf("lane %d has %d accounts of 64,000", lane, n)
		}
	}
}
