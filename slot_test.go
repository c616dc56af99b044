package libcluster

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/big"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// slotVectors were not computed by this library: the hashes are those of xxhsum,
// the slots those of the paper's algorithm in another language.
var slotVectors = []struct {
	key                        string
	hash                       uint64
	of7, of1000, ofAllThereCan int
}{
	{"", 0xef46db3751d8e999, 5, 332, 730414282},
	{"a", 0xd24ec4f1a98c6e5b, 6, 894, 582641062},
	{"asdf", 0x415872f599cea71e, 6, 161, 390608323},
	{"mailer", 0x4d7e2623cf671826, 1, 624, 1838573989},
	{"user-42", 0x397e9d3a76af7c81, 4, 93, 1443154230},
	{"0", 0x633457081244afec, 4, 718, 187082678},
	{"1", 0xb7b41276360564d4, 2, 957, 1853044311},
	{"42", 0x6de6f5d076d742b9, 1, 37, 1331353865},
	{"-1", 0x3d62c7c8a7a6e2d8, 6, 232, 1973503793},
	{"18446744073709551615", 0x8d1f8f6d8dfa7c47, 4, 808, 1527627942},
	{"-9223372036854775808", 0x9e606ab2dd272c10, 4, 92, 151290894},
	{"é😀", 0x8eebad97f27c1856, 6, 574, 1877238951},
	{"6ba7b8109dad11d180b400c04fd430c8", 0xda30f378d07b9fca, 4, 109, 595988377},
	{"Call me Ishmael. Some years ago--never mind how long precisely-", 0x02a2e85470d6fd96, 5, 681, 1126740683},
}

// Who changes what this test expects breaks every cluster whose instances are of
// two releases, and everybody who has data where the old function put it.
func TestSlotIsTheSameInEveryReleaseAndLanguage(t *testing.T) {
	for _, v := range slotVectors {
		require.Equal(t, v.hash, slotHash(v.key), "%q", v.key)
		require.Equal(t, v.of7, Slot(v.key, 7), "%q", v.key)
		require.Equal(t, v.of1000, Slot(v.key, 1000), "%q", v.key)
		require.Equal(t, v.ofAllThereCan, Slot(v.key, MaxWorkers), "%q", v.key)
	}
}

// The vectors are those that implementations in other languages publish.
func TestJumpIsThatOfOtherLanguages(t *testing.T) {
	for hash, slot := range []int{0, 55, 62, 8, 45, 59, 86, 97, 82, 59, 73, 37, 17, 56, 86, 21, 90, 37, 38, 83} {
		require.Equal(t, slot, jump(uint64(hash), 100))
	}
	require.Equal(t, 6, jump(10863919174838991, 11))
	require.Equal(t, 3, jump(2016238256797177309, 11))
	require.Equal(t, 5, jump(1673758223894951030, 11))
	require.Equal(t, 80343, jump(2, 100001))
	require.Equal(t, 22152, jump(2201, 100001))
	require.Equal(t, 15018, jump(2202, 100001))
}

func TestKeyIsTheSameAsTextBytesAndInteger(t *testing.T) {
	type (
		account string
		raw     []byte
		row     int64
	)
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.IntRange(1, MaxWorkers).Draw(t, "total")
		text := rapid.String().Draw(t, "text")
		for _, slot := range []int{Slot([]byte(text), total), Slot(account(text), total), Slot(raw(text), total)} {
			require.Equal(t, Slot(text, total), slot)
		}
		n := rapid.Int64().Draw(t, "integer")
		want := Slot(strconv.FormatInt(n, 10), total)
		for _, slot := range []int{Slot(n, total), Slot(int(n), total), Slot(row(n), total)} {
			require.Equal(t, want, slot)
		}
		u := rapid.Uint64().Draw(t, "unsigned")
		want = Slot(strconv.FormatUint(u, 10), total)
		for _, slot := range []int{Slot(u, total), Slot(uint(u), total), Slot(uintptr(u), total)} {
			require.Equal(t, want, slot)
		}
	})
	for n := int8(math.MinInt8); n < math.MaxInt8; n++ {
		want := Slot(strconv.Itoa(int(n)), 97)
		require.Equal(t, []int{want, want, want}, []int{Slot(n, 97), Slot(int16(n), 97), Slot(int32(n), 97)})
		if n >= 0 {
			require.Equal(t, []int{want, want, want}, []int{Slot(uint8(n), 97), Slot(uint16(n), 97), Slot(uint32(n), 97)})
		}
	}
}

func TestTotalThatIsNoneHasNoSlot(t *testing.T) {
	for _, total := range []int{0, -1, math.MinInt, math.MaxInt} {
		require.Equal(t, -1, Slot("key", total), "of %d", total)
	}
	require.Equal(t, 0, Slot("key", 1))
}

// someTiling draws members' states that tile a total.
var someTiling = rapid.Custom(func(t *rapid.T) []State {
	workers := rapid.SliceOfN(rapid.IntRange(1, 9), 1, 20).Draw(t, "workers")
	var states []State
	total := 0
	for _, n := range workers {
		states = append(states, State{Index: total, Workers: n})
		total += n
	}
	for i := range states {
		states[i].Total = total
	}
	return states
})

func TestKeyIsOwnedByExactlyOneWorkerOfExactlyOneMember(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states := someTiling.Draw(t, "members")
		key := rapid.String().Draw(t, "key")
		var owners, workers []int
		for i, s := range states {
			index, mine := s.Worker(key)
			require.Equal(t, Slot(key, s.Total), index)
			require.Equal(t, mine, s.Owns(key))
			if mine {
				owners = append(owners, i)
			}
			for worker := range s.Workers {
				if s.Index+worker == index {
					workers = append(workers, index)
				}
			}
		}
		require.Len(t, owners, 1)
		require.Len(t, workers, 1)
	})
}

func TestIndexIsHeldByExactlyOneMember(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states := someTiling.Draw(t, "members")
		for index := -2; index < states[0].Total+2; index++ {
			holders := 0
			for _, s := range states {
				if s.Holds(index) {
					holders++
				}
			}
			require.Equal(t, index >= 0 && index < states[0].Total, holders == 1, "index %d", index)
		}
	})
}

func TestStateThatIsNotActiveOwnsNothing(t *testing.T) {
	for _, s := range []State{{Index: -1, Workers: 3, Total: 7}, {Index: -1}, {}} {
		for i := range 100 {
			key := strconv.Itoa(i)
			require.False(t, s.Owns(key), "%+v", s)
			index, mine := s.Worker(key)
			require.Equal(t, -1, index)
			require.False(t, mine)
			require.False(t, s.Holds(i-2))
		}
		from, to := s.Range(1000)
		require.Equal(t, from, to)
		for p := range s.Partitions(1000) {
			t.Errorf("%+v has partition %d", s, p)
		}
	}
}

// manyKeys is enough that chance moves a share by less than a fifth of a hundredth.
const manyKeys = 100_000

// hashesOf returns the hashes of keys of a form, as a database numbers its rows and
// as people name things.
func hashesOf(form string) []uint64 {
	hashes := make([]uint64, manyKeys)
	for i := range hashes {
		hashes[i] = slotHash(fmt.Sprintf(form, i))
	}
	return hashes
}

func TestGrowingMovesKeysOnlyToNewWorkersAndAsFewAsTheyNeed(t *testing.T) {
	t.Parallel()
	hashes := hashesOf("%d")
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.IntRange(1, 2000).Draw(t, "total")
		more := rapid.IntRange(1, 500).Draw(t, "more")
		moved := 0
		for key, hash := range hashes {
			before, after := jump(hash, total), jump(hash, total+more)
			if before == after {
				continue
			}
			moved++
			if after < total {
				t.Fatalf("key %d moves from %d to %d, which was there before", key, before, after)
			}
		}
		least := float64(more) / float64(total+more)
		require.InDelta(t, least, float64(moved)/manyKeys, 0.01)
	})
}

func TestKeysOfASequenceAreSpreadEvenly(t *testing.T) {
	for _, form := range []string{"%d", "user-%d", "%08d", "%d@example.com"} {
		hashes := hashesOf(form)
		for _, total := range []int{2, 3, 7, 10, 64, 100} {
			counts := make([]int, total)
			for _, hash := range hashes {
				counts[jump(hash, total)]++
			}
			ideal := float64(manyKeys) / float64(total)
			for slot, n := range counts {
				require.InDelta(t, ideal, float64(n), 5*math.Sqrt(ideal), "%s: slot %d of %d", form, slot, total)
			}
		}
	}
}

func TestRangesTile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		states := someTiling.Draw(t, "members")
		n := rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 200), rapid.Just(uint64(math.MaxUint64))).Draw(t, "n")
		end := uint64(0)
		for _, s := range states {
			from, to := s.Range(n)
			require.Equal(t, end, from)
			require.LessOrEqual(t, from, to)
			// As even as whole numbers can be: less than one from its share.
			share := new(big.Rat).SetFrac(
				new(big.Int).Mul(new(big.Int).SetUint64(n), big.NewInt(int64(s.Workers))), big.NewInt(int64(s.Total)))
			off := share.Sub(share, new(big.Rat).SetUint64(to-from))
			require.Negative(t, off.Abs(off).Cmp(big.NewRat(1, 1)))
			end = to
		}
		require.Equal(t, n, end)
	})
}

func TestRangeIsWhatTheFractionSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.IntRange(1, MaxWorkers).Draw(t, "total")
		index := rapid.IntRange(0, total-1).Draw(t, "index")
		workers := rapid.IntRange(1, total-index).Draw(t, "workers")
		n := rapid.Uint64().Draw(t, "n")
		boundary := func(index int) uint64 {
			product := new(big.Int).Mul(new(big.Int).SetUint64(n), big.NewInt(int64(index)))
			return product.Div(product, big.NewInt(int64(total))).Uint64()
		}
		from, to := State{Index: index, Workers: workers, Total: total}.Range(n)
		require.Equal(t, boundary(index), from)
		require.Equal(t, boundary(index+workers), to)
	})
}

func TestPartitionIsOwnedByExactlyOneMember(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(t, "n")
		var all []int
		for _, s := range someTiling.Draw(t, "members") {
			mine := slices.Collect(s.Partitions(n))
			require.True(t, slices.IsSorted(mine))
			for _, p := range mine {
				require.True(t, s.Owns(strconv.Itoa(p)), "partition %d", p)
			}
			all = append(all, mine...)
		}
		slices.Sort(all)
		require.Len(t, all, n)
		for p := range n {
			require.Equal(t, p, all[p])
		}
	})
}

func TestPartitionsEndWhenTheLoopDoes(t *testing.T) {
	for p := range (State{Workers: 1, Total: 1}).Partitions(10) {
		require.Zero(t, p)
		break
	}
}

// benchmarkKeys are IDs as New makes them.
func benchmarkKeys() []string {
	var keys []string
	for _, m := range randomMembers(1024) {
		keys = append(keys, m.ID)
	}
	return keys
}

func TestOwningAllocatesNothing(t *testing.T) {
	type account string
	s := State{Index: 3, Workers: 4, Total: 100}
	keys, i, kept := benchmarkKeys(), 0, 0
	long := []byte(fmt.Sprint(keys))
	for name, own := range map[string]func(key string){
		"Owns":      func(key string) { s.Owns(key) },
		"Worker":    func(key string) { s.Worker(key) },
		"bytes":     func(string) { kept += Slot(long, s.Total) },
		"a type":    func(key string) { kept += Slot(account(key), s.Total) },
		"int":       func(string) { kept += Slot(i<<20, s.Total) },
		"uint64":    func(string) { kept += Slot(uint64(i)<<40, s.Total) },
		"Range":     func(string) { s.Range(1 << 63) },
		"Partition": func(string) { kept += countPartitions(s) },
	} {
		allocs := testing.AllocsPerRun(1000, func() {
			i++
			own(keys[i%len(keys)])
		})
		require.Zero(t, allocs, name)
	}
}

func countPartitions(s State) (n int) {
	for range s.Partitions(128) {
		n++
	}
	return n
}

// BenchmarkOwns measures one question whether a key is this instance's, beside
// what people write who have no function for it.
func BenchmarkOwns(b *testing.B) {
	keys := benchmarkKeys()
	owned := 0
	for _, total := range []int{10, 1000} {
		s := State{Index: 3, Workers: 4, Total: total}
		run := func(name string, owns func(i int) bool) {
			b.Run(fmt.Sprintf("%s/total=%d", name, total), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if owns(i) {
						owned++
					}
				}
			})
		}
		run("Owns", func(i int) bool { return s.Owns(keys[i%len(keys)]) })
		run("int", func(i int) bool { return s.Holds(Slot(i, s.Total)) })
		run("fnv%total", func(i int) bool {
			h := fnv.New64a()
			h.Write([]byte(keys[i%len(keys)]))
			return s.Holds(int(h.Sum64() % uint64(s.Total)))
		})
	}
}

// BenchmarkPartitions measures one walk over the 1024 partitions that an instance
// may have a part of.
func BenchmarkPartitions(b *testing.B) {
	s := State{Index: 3, Workers: 4, Total: 100}
	b.ReportAllocs()
	for b.Loop() {
		for p := range s.Partitions(1024) {
			_ = p
		}
	}
}
