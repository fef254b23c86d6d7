package chain

import (
	"encoding/binary"
	"hash/maphash"
)

// groups is how many groups of rows are summed up apart. A difference in one of them is looked for among the rows of
// that group alone.
const groups = 1 << 16

// Sums compares the rows of the database with the items of the chain, in any order and in constant memory. What is
// added and removed as often leaves nothing behind. What is summed up are hashes under seeds that are drawn anew each
// time, so that nobody can make a change whose sums come out even.
type Sums struct {
	seeds  [3]maphash.Seed
	groups [groups][2]uint64
}

// NewSums returns sums over nothing.
func NewSums() *Sums {
	return &Sums{seeds: [3]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed(), maphash.MakeSeed()}}
}

// Empty returns sums over nothing that can be added to s.
func (s *Sums) Empty() *Sums { return &Sums{seeds: s.seeds} }

// Key tells the states of all rows apart.
type Key [len(Hash{}) + 8 + 1]byte

// Key is the key of the item's row.
func (i Item) Key() (k Key) {
	copy(k[:], i.Hash[:])
	if i.Kind == Entry {
		binary.BigEndian.PutUint64(k[len(i.Hash):], uint64(i.At))
	}
	k[len(k)-1] = byte(i.Kind)
	return k
}

// Add adds an item, or takes away one that is gone.
func (s *Sums) Add(i Item) {
	group := &s.groups[s.Group(i)]
	key := i.Key()
	a, b := maphash.Bytes(s.seeds[1], key[:]), maphash.Bytes(s.seeds[2], key[:])
	if i.Gone {
		a, b = -a, -b
	}
	group[0] += a
	group[1] += b
}

// Group is the group of the item's row. All states of a row are in the same one.
func (s *Sums) Group(i Item) int { return int(maphash.Bytes(s.seeds[0], i.ID[:]) % groups) }

// Merge adds other sums.
func (s *Sums) Merge(other *Sums) {
	for i := range s.groups {
		s.groups[i][0] += other.groups[i][0]
		s.groups[i][1] += other.groups[i][1]
	}
}

// Uneven returns the groups in which something is left.
func (s *Sums) Uneven() (uneven []int) {
	for i, sum := range s.groups {
		if sum != [2]uint64{} {
			uneven = append(uneven, i)
		}
	}
	return uneven
}
