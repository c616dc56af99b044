package peers

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/libcluster/libcluster/internal/etcdserver"
)

func TestEmptyServerBeginsByWhatTheOthersSay(t *testing.T) {
	voters := []string{"a", "b", "c"}
	all := lots{"a": "1", "b": "2", "c": "3"}
	says := func(stage etcdserver.Stage, l lots) word { return word{Voters: voters, Stage: stage, Lots: l} }
	empty := func(own string) word { return says(etcdserver.Empty, lots{own: all[own]}) }
	formed := func(cluster string) word { return word{Voters: voters, Stage: etcdserver.Formed, Cluster: cluster} }
	differs := word{Voters: []string{"a", "b"}, Stage: etcdserver.Empty}
	lost := lots{"a": "0", "b": "2", "c": "3"} // a had another folder
	for _, c := range []struct {
		when  string
		heard map[string]word
		enter []string
		form  lots
		why   string
	}{
		{"nobody answers", nil, nil, nil, "waits for b and c"},
		{"one does not answer, which may have data", map[string]word{"b": empty("b")}, nil, nil, "waits for c"},
		{"all answer, and none has data", map[string]word{"b": empty("b"), "c": empty("c")}, nil, all, ""},
		{"one was quicker", map[string]word{"b": empty("b"), "c": says(etcdserver.Forming, all)}, nil, all, ""},
		{"one was quicker, before another lost its folder", map[string]word{
			"b": says(etcdserver.Empty, lots{"b": "4"}), "c": says(etcdserver.Forming, all),
		}, nil, all, ""},
		{"one was quicker, before this peer lost its folder", map[string]word{
			"b": empty("b"), "c": says(etcdserver.Forming, lost),
		}, nil, nil, "waits for c to be ready"},
		{"one has data and no lots, as when it enters a cluster", map[string]word{
			"b": says(etcdserver.Forming, lots{"b": "2"}), "c": says(etcdserver.Forming, all),
		}, nil, all, ""},
		{"one enters a cluster that was there before", map[string]word{
			"b": empty("b"), "c": says(etcdserver.Forming, lots{"c": "3"}),
		}, nil, nil, "waits for c to be ready"},
		{"data whose lots nobody knows", map[string]word{
			"b": empty("b"), "c": says(etcdserver.Forming, lots{}),
		}, nil, nil, "waits for c to be ready"},
		{"one has data", map[string]word{"b": formed("x")}, []string{"b"}, nil, ""},
		{"one has data and is about to open it", map[string]word{"b": formed("")}, nil, nil, "waits until b has opened the data"},
		{"two have data, and one has opened it", map[string]word{"b": formed(""), "c": formed("x")}, []string{"c"}, nil, ""},
		{"two clusters", map[string]word{"b": formed("x"), "c": formed("y")}, nil, nil, "different clusters: b of cluster x, c of cluster y"},
		{"the lists differ", map[string]word{"b": differs, "c": empty("c")}, nil, nil, "the lists differ: here they are a b c, and at b they are a b"},
		{"the lists differ, and one does not answer", map[string]word{"b": differs}, nil, nil, "the lists differ"},
		{"the lists differ, and there is a cluster", map[string]word{"b": differs, "c": formed("x")}, []string{"c"}, nil, ""},
	} {
		b := choose("a", voters, "1", c.heard)
		require.Equal(t, c.enter, b.enter, c.when)
		require.Equal(t, c.form, b.form, c.when)
		require.Contains(t, b.why, c.why, c.when)
		require.Equal(t, c.why == "", b.why == "", c.when)
	}
}

// One has lost its folder while the cluster was made, and three have decided by different lots of it:
// only what two have decided gets a majority by this peer.
func TestEmptyServerFollowsMost(t *testing.T) {
	voters := []string{"a", "b", "c", "d", "e"}
	for _, most := range []string{"5", "6"} {
		form := func(e string) lots { return lots{"a": "1", "b": "2", "c": "3", "d": "4", "e": e} }
		heard := map[string]word{"e": {Voters: voters, Stage: etcdserver.Empty, Lots: lots{"e": "7"}}}
		for address, e := range map[string]string{"b": "5", "c": "6", "d": most} {
			heard[address] = word{Voters: voters, Stage: etcdserver.Forming, Lots: form(e)}
		}
		require.Equal(t, beginning{form: form(most)}, choose("a", voters, "1", heard))
	}
}

// What is asked is whether the own cluster can have a majority: whether, of those that are not known
// to be of another one, there are enough.
func TestDataIsOldWhenItsClusterCanHaveNoMajority(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		voters := []string{"a", "b", "c", "d", "e", "f", "g"}[:rapid.IntRange(1, 7).Draw(t, "voters")]
		heard := map[string]word{}
		others := 0
		for _, address := range voters[1:] {
			if !rapid.Bool().Draw(t, "there") {
				continue
			}
			w := word{
				Stage:   rapid.SampledFrom([]etcdserver.Stage{etcdserver.Empty, etcdserver.Forming, etcdserver.Formed, etcdserver.Formed}).Draw(t, "stage"),
				Cluster: rapid.SampledFrom([]string{"", "x", "y", "z"}).Draw(t, "cluster"),
			}
			heard[address] = w
			if w.Stage == etcdserver.Formed && (w.Cluster == "y" || w.Cluster == "z") {
				others++
			}
		}
		there := elsewhere(voters, "x", heard)
		if 2*others > len(voters) {
			require.Len(t, there, others)
		} else {
			require.Nil(t, there)
		}
		require.Nil(t, elsewhere(voters, "", heard), "its data was not opened yet")
	})
}

func TestListsAreTheSameInAnyOrder(t *testing.T) {
	a := Config{ID: "a", Listen: "localhost:1", DataDir: "d", Peers: []Peer{{ID: "b", Address: "localhost:2"}, {Address: "h:3"}}}
	b := Config{ID: "b", Listen: "127.0.0.1:2", DataDir: "d", Peers: []Peer{{Address: "h:3", ID: "c"}, {ID: "x", Address: "127.0.0.1:1"}}}
	one, err := New(a)
	require.NoError(t, err)
	other, err := New(b)
	require.NoError(t, err)
	require.Equal(t, one.voters, other.voters)
}

func TestClusterIsNamedByAllLots(t *testing.T) {
	one := lots{"a": "1", "b": "2"}
	require.Equal(t, one.token(), lots{"b": "2", "a": "1"}.token())
	for _, other := range []lots{{"a": "1"}, {"a": "2", "b": "1"}, {"a": "1", "b": "3"}, {"a": "1", "c": "2"}} {
		require.NotEqual(t, one.token(), other.token())
	}
}

func TestLotsAreKept(t *testing.T) {
	dir := t.TempDir()
	drawn := lots{}.drawn("a")
	require.NotEqual(t, drawn, lots{}.drawn("a"))
	require.NoError(t, drawn.keep(dir))
	kept, err := readLots(dir)
	require.NoError(t, err)
	require.Equal(t, drawn, kept)
	require.Equal(t, drawn, lots{"a": drawn["a"], "b": "2"}.drawn("a"), "what it has decided does not bind a folder without data")
	for range 2 {
		require.NoError(t, forgetLots(dir))
	}
	kept, err = readLots(dir)
	require.NoError(t, err)
	require.Empty(t, kept)
}
