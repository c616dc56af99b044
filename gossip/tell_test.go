package gossip

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
)

func knowing(own string, others map[string]string) *node {
	n := &node{name: "self", own: entry{ID: own}, records: newRecords("")}
	for name, id := range others {
		n.records.put(entry{Node: name, ID: id, Version: 1}, began)
		n.records.setUp(name, name+":1", began)
	}
	return n
}

// An instance that rejoins, or is started again, has another node. Two instances were a
// majority of five, when one had tried to join twice.
func TestVouchersAreInstancesAndNotNodes(t *testing.T) {
	n := knowing("0", map[string]string{"a1": "a", "a2": "a", "b": "b", "former": "0", "gone": "g", "down": "d", "waits": "w"})
	n.records.put(entry{Node: "gone", ID: "g", Version: 1, Gone: true}, began)
	n.records.setDown("down", began)
	q := &question{vouched: map[string]bool{"waits": false}}
	for _, c := range []struct {
		node     string
		vouchers int
	}{{"a1", 1}, {"a2", 1}, {"former", 1}, {"gone", 1}, {"down", 1}, {"stranger", 1}, {"b", 2}} {
		q.vouched[c.node] = true
		require.Equal(t, c.vouchers, n.vouchers(q), c.node)
	}
}

func TestNodeThatDoesNotVouchYetIsAskedAgainIfThatCounts(t *testing.T) {
	n := knowing("0", map[string]string{"a": "a", "b": "b", "c": "c"})
	q := &question{vouched: map[string]bool{"a": true, "b": false}}
	asked, waitedFor := n.silent(q)
	require.Equal(t, map[string]string{"c": "c:1"}, asked)
	require.Equal(t, []string{"c"}, waitedFor)
	q.persists = true
	asked, waitedFor = n.silent(q)
	require.Equal(t, map[string]string{"b": "b:1", "c": "c:1"}, asked)
	require.Equal(t, []string{"c"}, waitedFor)
}

// It may come late, or somebody on the way may have kept it.
func TestAnswerToTheNodeBeforeAnswersNothing(t *testing.T) {
	asks := map[uint64]bool{}
	for range 2 {
		n, err := start(t.Context(), Config{Bind: "127.0.0.1:0"}, libcluster.Registration{Key: "k", Logger: zap.NewNop()})
		require.NoError(t, err)
		asks[n.asks+1] = true
		n.stop()
	}
	require.Len(t, asks, 2, "the first questions of two nodes have the same number")
}

// Two Leaves of one session may overlap: the first speaks to the others while the second stops the node.
func TestNodeThatHasStoppedMayLeave(t *testing.T) {
	n, err := start(t.Context(), Config{Bind: "127.0.0.1:0"}, libcluster.Registration{Key: "k", Logger: zap.NewNop()})
	require.NoError(t, err)
	n.stop()
	n.leave(t.Context())
}
