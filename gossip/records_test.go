package gossip

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/libcluster/libcluster"
)

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// drawEntry draws one of a few nodes' entries. What a node says in one version is always the
// same, as it is in reality.
func drawEntry(t *rapid.T) entry {
	node := rapid.IntRange(0, 5).Draw(t, "node")
	version := rapid.Uint64Range(1, 4).Draw(t, "version")
	e := entry{
		Node: fmt.Sprint("n", node), ID: fmt.Sprint("id", node%3), Since: int64(node / 2), Version: version,
		Gone: rapid.IntRange(0, 3).Draw(t, "gone") == 0,
	}
	e.member = libcluster.Member{ID: e.ID, Workers: 10*node + int(version)}
	e.Record = e.member.Record()
	return e
}

// twin is what records are, by a list of all that has ever come.
type twin struct {
	came []entry
	up   map[string]bool // nodes of which nothing was heard are missing
}

func (w twin) members() map[string]string {
	best := map[string]entry{}
	for _, e := range w.came {
		latest := !slices.ContainsFunc(w.came, func(o entry) bool { return o.Node == e.Node && o.rank() > e.rank() })
		up, known := w.up[e.Node]
		if !latest || e.Gone || known && !up {
			continue
		}
		b, there := best[e.ID]
		if !there || e.Since > b.Since || e.Since == b.Since && e.Node > b.Node {
			best[e.ID] = e
		}
	}
	return texts(best)
}

func texts(entries map[string]entry) map[string]string {
	texts := map[string]string{}
	for id, e := range entries {
		texts[id] = fmt.Sprintf("%s %s %s", e.Node, strconv.FormatUint(e.Version, 10), e.Record)
	}
	return texts
}

func TestRecordsAreWhatTheLatestEntriesSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, w := newRecords(""), twin{up: map[string]bool{}}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				e := drawEntry(t)
				r.put(e, began)
				w.came = append(w.came, e)
			},
			"up or down": func(t *rapid.T) {
				node, up := drawEntry(t).Node, rapid.Bool().Draw(t, "up")
				if _, known := w.up[node]; up {
					r.setUp(node, node+":1", began)
				} else if known {
					r.setDown(node, began)
				} else {
					return
				}
				w.up[node] = up
			},
			"": func(t *rapid.T) {
				members, _ := r.members(began)
				require.Equal(t, w.members(), texts(members))
				for id, e := range members {
					holder, there := r.holder(id, began)
					require.True(t, there)
					require.Equal(t, e, holder)
				}
			},
		})
	})
}

func TestOrderAndRepetitionMakeNoDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOf(rapid.Custom(drawEntry)).Draw(t, "entries")
		a, b := newRecords(""), newRecords("")
		for _, e := range entries {
			a.put(e, began)
		}
		again := append(slices.Clone(entries), entries[:len(entries)/2]...)
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		random.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
		for _, e := range again {
			b.put(e, began)
		}
		require.Equal(t, a.entries, b.entries)
	})
}

func TestTwoThatCompareKnowTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		both := [2]records{newRecords(""), newRecords("")}
		for _, r := range both {
			for n := range 6 {
				r.setUp(fmt.Sprint("n", n), fmt.Sprint("host:", n), began)
			}
			for _, e := range rapid.SliceOf(rapid.Custom(drawEntry)).Draw(t, "entries") {
				r.put(e, began)
			}
		}
		digests := [2]map[string]uint64{both[0].digest(), both[1].digest()}
		require.Equal(t, maps.Equal(digests[0], digests[1]), sum(digests[0]) == sum(digests[1]))
		for n, r := range both {
			for _, e := range both[1-n].newer(digests[n]) {
				require.True(t, r.put(e, began), "nobody is told what it knows")
			}
		}
		require.Equal(t, both[0].digest(), both[1].digest())
		require.Equal(t, sum(both[0].digest()), sum(both[1].digest()))
	})
}

func published(node, id string) entry {
	return entry{Node: node, ID: id, Version: 1, Record: []byte("1"), member: libcluster.Member{ID: id, Workers: 1}}
}

func (r *records) ids(now time.Time) []string {
	members, _ := r.members(now)
	return slices.Sorted(maps.Keys(members))
}

func TestAPortIsOfTheLaterOfTwoNodes(t *testing.T) {
	for name, order := range map[string][]string{"in order": {"1", "2"}, "the other way": {"2", "1"}} {
		t.Run(name, func(t *testing.T) {
			r := newRecords("")
			for _, node := range order {
				r.put(published(node, node), began)
				r.setUp(node, "host:1", began)
			}
			require.Equal(t, []string{"2"}, r.ids(began))
		})
	}
}

// The clock of its machine was set back before it was started again.
func TestAPortIsOfTheEarlierNodeWhenTheLaterOneIsDown(t *testing.T) {
	r := newRecords("")
	for _, node := range []string{"2", "1"} {
		r.put(published(node, node), began)
		r.setUp(node, "host:1", began)
	}
	r.setDown("2", began)
	require.Equal(t, []string{"1"}, r.ids(began.Add(presumed)))
	r.setDown("1", began)
	require.Empty(t, r.ids(began.Add(presumed)))
}

func TestAPortIsOfTheNodeThatListensThere(t *testing.T) {
	r := newRecords("1")
	for _, node := range []string{"1", "2"} { // of which the others still speak
		r.put(published(node, node), began)
		r.setUp(node, "host:1", began)
	}
	require.Equal(t, []string{"1"}, r.ids(began))
}

func TestARecordMayComeBeforeItsNode(t *testing.T) {
	r := newRecords("")
	r.put(published("1", "a"), began)
	_, again := r.members(began)
	require.Equal(t, began.Add(presumed), again)
	require.Equal(t, []string{"a"}, r.ids(again.Add(-1)))
	require.Empty(t, r.ids(again), "its node has never come")
	r.setUp("1", "host:1", again)
	require.Equal(t, []string{"a"}, r.ids(again.Add(addressKept)))
}

func TestARecordIsHeldForAsLongAsWasPromised(t *testing.T) {
	r := newRecords("")
	r.put(published("1", "a"), began)
	r.setUp("1", "host:1", began)
	r.hold("1", 8, began.Add(3*time.Second))
	r.hold("1", 7, began.Add(time.Second)) // an earlier request that comes late
	r.hold("1", 7, began.Add(time.Hour))   // and again
	r.hold("1", 8, began.Add(time.Hour))
	r.hold("2", 1, began.Add(time.Second)) // of which there is no record
	r.setDown("1", began)
	_, again := r.members(began)
	require.Equal(t, began.Add(3*time.Second), again)
	require.Equal(t, []string{"a"}, r.ids(again.Add(-1)))
	require.Empty(t, r.ids(again))
	gone := published("1", "a")
	gone.Gone = true
	r.put(gone, began)
	require.Empty(t, r.ids(began), "its process has ended")
}

func TestWhatIsOfNoUseIsForgotten(t *testing.T) {
	r := newRecords("")
	for _, node := range []string{"down", "up"} {
		r.put(published(node, node), began)
		r.setUp(node, node+":1", began)
	}
	r.put(published("never came", "x"), began)
	r.setDown("down", began)
	over := published("over", "over")
	r.setUp("over", "over:1", began)
	over.Gone = true
	r.put(over, began)
	r.setDown("over", began)
	r.forget(began.Add(recordKept - 1))
	require.Len(t, r.entries, 4)
	require.Len(t, r.peers, 3)
	r.forget(began.Add(recordKept))
	require.NotContains(t, r.peers, "over", "it never comes back")
	require.Equal(t, []string{"up"}, slices.Collect(maps.Keys(r.entries)))
	up, down := r.addresses()
	require.Equal(t, []string{"up:1"}, up)
	require.Equal(t, []string{"down:1"}, down, "it is still looked for")
	r.forget(began.Add(addressKept))
	_, down = r.addresses()
	require.Empty(t, down)
}

func TestThoseThatFollowInTheRing(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	require.Equal(t, []string{"e", "a", "b"}, following(names, "d"))
	require.Equal(t, []string{"a", "b", "c"}, following(names, "e"))
	require.Equal(t, []string{"b"}, following(names[:2], "a"))
	require.Empty(t, following(names[:1], "a"))
	require.Empty(t, following(nil, "a"))
}

func TestMessagesSurviveEncodingAndGarbageDoesNot(t *testing.T) {
	one := uint64(1)
	m := message{From: "1", Address: "host:1", Entries: []entry{published("1", "a")}, Ask: 2, Hold: 3, Sum: &one}
	again, err := decode(m.encode())
	require.NoError(t, err)
	require.Equal(t, m, again)
	_, err = decode([]byte("no message"))
	require.Error(t, err)
	m.Entries = append(m.Entries, entry{Node: "2", ID: "b", Record: []byte(`"garbage"`)}, entry{Node: "3", ID: "a/b", Record: []byte("1")})
	again, err = decode(m.encode())
	require.NoError(t, err)
	require.Equal(t, []entry{published("1", "a")}, again.Entries)
}

// What does not fit comes when the two compare.
func TestOnlySoMuchIsToldAtOnceToOneThatComes(t *testing.T) {
	n := &node{name: "self", records: newRecords("self"), transport: &transport{}}
	record := libcluster.Member{Workers: 1, Metadata: map[string]string{"x": strings.Repeat("x", 60<<10)}}.Record()
	for i := range 200 {
		e := published(fmt.Sprint("n", i), fmt.Sprint(i))
		e.Record = record
		n.records.put(e, began)
		n.records.setUp(e.Node, e.Node+":1", began)
	}
	text := delegate{n}.LocalState(true)
	require.LessOrEqual(t, len(text), largestPushPull+largestPushPull/100)
	m, err := decode(text)
	require.NoError(t, err)
	require.Len(t, m.Entries, largestPushPull/len(record))
}

func TestLargeMessagesAreSplit(t *testing.T) {
	m := message{From: "1"}
	for n := range 40 {
		m.Entries = append(m.Entries, entry{Node: fmt.Sprint(n), Record: make([]byte, 64<<10)})
	}
	var all []entry
	parts := m.split()
	for _, part := range parts {
		require.Equal(t, "1", part.From)
		require.LessOrEqual(t, len(part.Entries), 16)
		all = append(all, part.Entries...)
	}
	require.Len(t, parts, 3)
	require.Equal(t, m.Entries, all)
}
