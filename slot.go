package libcluster

import (
	"iter"
	"math/bits"
	"reflect"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// SlotKey is what [Slot] takes for a key: text, bytes, or an integer of any size.
type SlotKey interface {
	~string | ~[]byte |
		~int | ~int8 | ~int16 | ~int32 | ~int64 |
		~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr
}

// Slot returns which of total workers owns a key: 0 to total-1, or -1 if total
// is not 1 to [MaxWorkers]. When total grows, keys move to the new workers only,
// and no more of them than these need for an even share. With hash % total
// nearly all would move.
//
// The function is the same in every release, and simple enough to be the same in
// every language: the XXH64 hash, with seed 0, of the key's bytes, put through the
// jump consistent hash of Lamping and Veach. An integer is hashed as its decimal
// digits, with '-' in front of a negative one: so 42, int64(42), "42" and
// []byte("42") are one key, wherever it was read from. To check another
// implementation:
//
//	key            XXH64             of 7  of 1000
//	"" (empty)     ef46db3751d8e999     5      332
//	"a"            d24ec4f1a98c6e5b     6      894
//	42 or "42"     6de6f5d076d742b9     1       37
//	-1 or "-1"     3d62c7c8a7a6e2d8     6      232
//	"é😀" (UTF-8)  8eebad97f27c1856     6      574
//
// The jump consistent hash alone maps 10863919174838991 to 6 of 11, and 2201 to
// 22152 of 100001.
func Slot[K SlotKey](key K, total int) int { return jump(slotHash(key), total) }

// slotHash is XXH64: fast, of good quality, published with test vectors, and to
// be had in every language, often from the standard library or beside it.
func slotHash[K SlotKey](key K) uint64 {
	switch k := any(key).(type) {
	case string:
		return xxhash.Sum64String(k)
	case []byte:
		return xxhash.Sum64(k)
	}
	// The other types, users' own types among them, are too many to list.
	v := reflect.ValueOf(key)
	switch v.Kind() {
	case reflect.String:
		return xxhash.Sum64String(v.String())
	case reflect.Slice:
		return xxhash.Sum64(v.Bytes())
	}
	var digits [len("-9223372036854775808")]byte
	if v.CanInt() {
		return xxhash.Sum64(strconv.AppendInt(digits[:0], v.Int(), 10))
	}
	return xxhash.Sum64(strconv.AppendUint(digits[:0], v.Uint(), 10))
}

// jump is the jump consistent hash: "A Fast, Minimal Memory, Consistent Hash
// Algorithm", Lamping and Veach, 2014. The generator's 31 bits are why there is
// a limit to total. No step adds to a product, so there is nothing that a
// compiler may fuse and round otherwise on another processor.
func jump(hash uint64, total int) int {
	if total > MaxWorkers {
		return -1
	}
	slot, next := int64(-1), int64(0)
	for next < int64(total) {
		slot = next
		hash = hash*2862933555777941757 + 1
		next = int64(float64(slot+1) * (float64(1<<31) / float64(hash>>33+1)))
	}
	return int(slot)
}

// Holds reports whether this instance holds a cluster-wide worker index, or in mode
// [ModeCooperative] a partition. With [Slot] it
// answers for keys that are no strings:
//
//	mine := s.Holds(libcluster.Slot(row.ID, s.Total))
func (s State) Holds(index int) bool {
	if s.held != nil {
		return s.held.set.has(index)
	}
	return s.Active() && index >= s.Index && index-s.Index < s.Workers
}

// Owns reports whether this instance owns a key. Of all instances that have a state of the
// same generation, exactly one owns it, or in mode [ModeCooperative] at most one: a partition
// that moves is nobody's between two plans. A state that is not active owns nothing.
func (s State) Owns(key string) bool {
	_, mine := s.Worker(key)
	return mine
}

// Worker returns the cluster-wide index of the worker that owns a key, or in mode
// [ModeCooperative] the number of its partition, and whether that is
// a worker of this instance; if so, it is number index-s.Index of the instance's workers.
// If there is no total, or the state is not active, index is -1.
func (s State) Worker(key string) (index int, mine bool) {
	if !s.Active() {
		return -1, false
	}
	index = Slot(key, s.Total)
	return index, s.Holds(index)
}

// Range divides [0, n) evenly between all workers into contiguous ranges, and returns the
// range [from, to) of this instance's workers. It is empty if the state is not active, and in
// mode [ModeCooperative], in which an instance holds no range. At a
// change of the total most of the boundaries move: use it where a range can be read cheaper
// than single keys.
func (s State) Range(n uint64) (from, to uint64) {
	if !s.Active() || s.Total < 1 || s.held != nil {
		return 0, 0
	}
	return s.boundary(s.Index, n), s.boundary(s.Index+s.Workers, n)
}

// boundary is where the range of a worker begins: n*index/total, with the
// product in 128 bits.
func (s State) boundary(index int, n uint64) uint64 {
	hi, lo := bits.Mul64(n, uint64(min(index, s.Total)))
	quotient, _ := bits.Div64(hi, lo, uint64(s.Total))
	return quotient
}

// Partitions yields the partitions, of 0 to n-1, that this instance owns: those whose
// number, as a key, it owns. The worker of partition p is Slot(p, s.Total). Use it for work
// that comes in a fixed number of parts, such as the partitions of a topic, or tables by the
// hash of their key. Chance decides how evenly the partitions are divided, so have many more
// partitions than workers.
func (s State) Partitions(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for p := range n {
			if s.Holds(Slot(p, s.Total)) && !yield(p) {
				return
			}
		}
	}
}
