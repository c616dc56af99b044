package libcluster

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/kv"
)

func TestOnlyAcknowledgementsThatOthersFollowGather(t *testing.T) {
	note := func(of kv.Owner, generation int64) kv.Change {
		return kv.Change{Record: noteOf(of, generation, "", of)}
	}
	y := surveyor{awaited: map[string]bool{incarnationOf(kv.Owner(1)): true, incarnationOf(kv.Owner(2)): true}}
	for what, c := range map[string]kv.Change{
		"a record":       {Record: kv.Record{Key: "m1", Value: []byte("1"), Owner: 1}},
		"a deletion":     {Record: note(1, 7).Record, Gone: true},
		"a draining key": {Record: kv.Record{Key: drainingKeys + "m1"}},
		"a plan":         {Record: kv.Record{Key: planKey, Value: []byte("7")}},
		"no note":        {Record: kv.Record{Key: note(1, 7).Key, Value: []byte("x")}},
		"one for good":   note(1, StoppedForGood),
		"and of another": note(3, StoppedForGood),
	} {
		require.False(t, y.gathers(c), what)
	}
	require.True(t, y.gathers(note(3, 7)))
	require.True(t, y.gathers(note(1, 7)))
	require.True(t, y.gathers(note(1, 7)), "again")
	require.False(t, y.gathers(note(2, 7)), "the last one")
	require.False(t, y.gathers(note(1, 8)), "none is awaited")
}
