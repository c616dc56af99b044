package peers

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/etcdserver"
)

func TestEmptyServerBeginsByWhatTheOthersSay(t *testing.T) {
	voters := []string{"a", "b", "c"}
	says := func(stage etcdserver.Stage) word { return word{Voters: voters, Stage: stage} }
	differs := word{Voters: []string{"a", "b"}, Stage: etcdserver.Empty}
	for _, c := range []struct {
		when   string
		heard  map[string]word
		formed []string
		why    string
	}{
		{"nobody answers", nil, nil, "waits for b and c"},
		{"one does not answer, which may have data", map[string]word{"b": says(etcdserver.Empty)}, nil, "waits for c"},
		{"all answer, and none has data", map[string]word{"b": says(etcdserver.Empty), "c": says(etcdserver.Empty)}, nil, ""},
		{"one was quicker", map[string]word{"b": says(etcdserver.Empty), "c": says(etcdserver.Forming)}, nil, ""},
		{"one has data", map[string]word{"b": says(etcdserver.Formed)}, []string{"b"}, ""},
		{"the lists differ", map[string]word{"b": differs, "c": says(etcdserver.Empty)}, nil, "the lists differ: here they are a b c, and at b they are a b"},
		{"the lists differ, and one does not answer", map[string]word{"b": differs}, nil, "the lists differ"},
		{"the lists differ, and there is a cluster", map[string]word{"b": differs, "c": says(etcdserver.Formed)}, []string{"c"}, ""},
	} {
		formed, why := choose("a", voters, c.heard)
		require.Equal(t, c.formed, formed, c.when)
		require.Contains(t, why, c.why, c.when)
		require.Equal(t, c.why == "", why == "", c.when)
	}
}

func TestListsAreTheSameInAnyOrder(t *testing.T) {
	a := Config{ID: "a", Listen: "localhost:1", DataDir: "d", Peers: []Peer{{ID: "b", Address: "localhost:2"}, {Address: "h:3"}}}
	b := Config{ID: "b", Listen: "127.0.0.1:2", DataDir: "d", Peers: []Peer{{Address: "h:3", ID: "c"}, {ID: "x", Address: "127.0.0.1:1"}}}
	one, err := New(a)
	require.NoError(t, err)
	other, err := New(b)
	require.NoError(t, err)
	require.Equal(t, one.voters, other.voters)
	require.Equal(t, token(one.voters), token(other.voters))
	require.NotEqual(t, token(one.voters), token(one.voters[:2]))
}
