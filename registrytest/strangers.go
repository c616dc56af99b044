package registrytest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"
)

// garbage is what strangers write: none of it is a member's record.
var garbage = map[string]string{
	"empty":                  "",
	"space":                  " \n",
	"words":                  "three",
	"zero":                   "0",
	"negative":               "-4",
	"sign":                   "+4",
	"fraction":               "1.5",
	"exponent":               "1e3",
	"underscore":             "1_000",
	"too many":               "2147483648",
	"absurd":                 "99999999999999999999999999",
	"two":                    "1 2",
	"binary":                 "\x00\xff\xfe",
	"null":                   "null",
	"list":                   "[1]",
	"string":                 `"1"`,
	"cut off":                `{"workers":`,
	"no workers":             `{"address":"x"}`,
	"zero workers":           `{"workers":0}`,
	"minus workers":          `{"workers":-1}`,
	"string workers":         `{"workers":"1"}`,
	"huge":                   `{"workers":1,"address":"` + strings.Repeat("x", 64<<10) + `"}`,
	"nested/a":               "1",
	"nested/a/b":             "1",
	"bell\a":                 "1",
	"\xff":                   "1",
	strings.Repeat("i", 256): "1",
}

// put writes as a stranger.
func (s *suite) put(id, record string) {
	s.Helper()
	require.NoError(s, s.h.Put(s.within(), s.registry, s.cluster(), id, []byte(record)), "another program puts %q", id)
}

func (s *suite) putGarbage() {
	s.Helper()
	for _, id := range slices.Sorted(maps.Keys(garbage)) {
		s.put(id, garbage[id])
	}
}

// garbageIsIgnored writes it while one instance watches and before another joins.
func garbageIsIgnored(s *suite) {
	a := s.join("a")
	a.sees("a=1")
	s.putGarbage()
	b := s.join("b", workers(2))
	b.sees("a=1 b=2")
	a.sees("a=1 b=2")
	s.putGarbage() // over its own kind
	a.staysQuiet("other programs have written what is no member's record")
	b.staysQuiet("other programs have written what is no member's record")
	require.Equal(s, []string{"a=1", "b=2"}, a.history, "nothing that other programs wrote was a member even for a moment")
	_, err := a.session.Renew(s.within())
	require.NoError(s, err, "Renew amid garbage")
	b.leave()
	a.sees("a=1")
}

// validRecordOfAnotherProgramCounts: who is a member depends on what the registry
// holds and on nothing else.
func validRecordOfAnotherProgramCounts(s *suite) {
	a := s.join("a")
	a.sees("a=1")
	s.put("s", "3")
	a.sees("a=1 s=3")
	b := s.join("b")
	b.sees("a=1 b=1 s=3")
	s.put("s", " 4\n")
	s.put("t", `{"workers":2,"address":"x","later":true}`)
	for _, i := range []*instance{a, b} {
		i.sees("a=1 b=1 s=4 t=2")
		require.Equal(s, "x", i.members["t"].Address)
	}
	s.put("s", "no member any more")
	a.sees("a=1 b=1 t=2")
	b.sees("a=1 b=1 t=2")
	s.put("s", "5")
	a.sees("a=1 b=1 s=5 t=2")
	require.NoError(s, s.h.Delete(s.within(), s.registry, s.cluster(), "s"))
	require.NoError(s, s.h.Delete(s.within(), s.registry, s.cluster(), "t"))
	a.sees("a=1 b=1")
	b.sees("a=1 b=1")
}

// oddIDs are all valid, and all different.
var oddIDs = []string{
	".", "..", " ", "a b", "-", "--help", "*", "?", "[a]", "~", "%2F", "%", `\`, `a\b`, `"`, "'", "`", "$HOME", "#", "&", ";",
	"a", "A", "aa", "ab", "0", "00", "-1", "é", "e\u0301", "ß", "日本語", "🙂", "ﬀ", "con", "nul.txt", "x:y", "a=b", "a,b",
	strings.Repeat("i", 255), strings.Repeat("é", 127),
}

func oddIDsAreKeptApart(s *suite) {
	together := len(oddIDs)
	if s.h.Heavy {
		together = 12
	}
	for ids := range slices.Chunk(oddIDs, together) {
		want := map[string]int{}
		joined := map[string]*instance{}
		for n, id := range ids {
			joined[id] = s.join(id, workers(n+1))
			want[id] = n + 1
		}
		last := ids[len(ids)-1]
		joined[last].sees(twinSeen(want))
		for _, id := range ids[:len(ids)/2] {
			joined[id].leave()
			delete(want, id)
		}
		for _, id := range ids[len(ids)/2:] {
			joined[id].sees(twinSeen(want))
		}
		for _, id := range ids[len(ids)/2:] {
			joined[id].leave()
		}
	}
}

// clustersAreKeptApart: clusters whose names begin alike, or nest, share nothing.
func clustersAreKeptApart(s *suite) {
	clusters := []struct{ partition, env string }{
		{"", "production"},
		{"", "prod"},
		{"", "test"},
		{"production", "production"}, // a partition that is called as an environment is
		{"production", "prod"},
		{"prod", "production"},
		{"test", "production"},
	}
	var instances []*instance
	for n, c := range clusters {
		instances = append(instances,
			s.join("a", in(c.partition, c.env), workers(n+1)),
			s.join(fmt.Sprint("only", n), in(c.partition, c.env)))
	}
	longer := s.key
	s.key += "s" // a key that begins as another one does
	instances = append(instances, s.join("a", workers(99)))
	s.key = longer

	for n := range clusters {
		for _, i := range instances[2*n : 2*n+2] {
			i.sees(twinSeen(map[string]int{"a": n + 1, fmt.Sprint("only", n): 1}))
		}
	}
	instances[len(instances)-1].sees("a=99")
	instances[0].leave()
	instances[1].sees("only0=1")
	for n, i := range instances[2:] {
		_, err := i.session.Renew(s.within())
		require.NoError(s, err, "Renew of instance %d after one in another cluster has left", n)
		i.update(50)
		i.until("its own update", func() bool { return i.members[i.reg.Member.ID].Workers == 50 })
		require.NotContains(s, strings.Join(i.history, " "), "gone", "somebody in another cluster has left")
	}
}
