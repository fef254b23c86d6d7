package contract

import "github.com/google/uuid"

// Lanes is the number of lanes. It is fixed for the life of a database: every table of an account's data carries the
// lane. The number of partitions of a topic must divide it.
const Lanes = 64

// Lane returns the lane of an account, the unit of order, parallelism and distribution: the hash of Kafka's default
// partitioner over the account ID as text, modulo Lanes. Because the number of partitions divides Lanes, a partition
// always carries the same lanes.
func Lane(account uuid.UUID) int16 {
	return int16(Partition(account.String(), Lanes))
}

// Partition returns the partition that Kafka's default partitioner chooses for a key, of so many partitions.
func Partition(key string, partitions int) int {
	return int(murmur2([]byte(key)) & 0x7fffffff % uint32(partitions))
}

// murmur2 is the 32-bit MurmurHash2 as org.apache.kafka.common.utils.Utils.murmur2 computes it.
func murmur2(data []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := uint32(seed) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h = h*m ^ k
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(data[0])) * m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
