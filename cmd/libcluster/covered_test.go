package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster"
)

// remove deletes a record, as a person would.
func remove(t *testing.T, id string) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcdURL(t)}})
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Delete(t.Context(), "/"+key(t)+"/production/"+id)
	require.NoError(t, err)
}

func TestWhatNobodyHoldsIsListed(t *testing.T) {
	a, b := instance(t, "a", libcluster.ModeExclusive, nil), instance(t, "b", libcluster.ModeExclusive, nil)
	require.NoError(t, a.Join(t.Context()))
	require.NoError(t, b.Join(t.Context()))
	require.Contains(t, ls(t), "covered: every index is held once\nmember")
	var c census
	require.NoError(t, json.Unmarshal([]byte(ls(t, "-o", "json")), &c))
	require.Equal(t, &covered{Covered: true, Problems: []problem{}}, c.Coverage)

	leave(t, b, libcluster.Returning(time.Minute))
	require.Contains(t, ls(t), "not covered:\n  reserved, index 1, b: has left for a restart, and its assignment is reserved\nmember")
	require.NoError(t, json.Unmarshal([]byte(ls(t, "-o", "json")), &c))
	require.False(t, c.Coverage.Covered)
	require.Equal(t, []problem{
		{Kind: libcluster.ProblemReserved, From: 1, To: 2, ID: "b", Text: "has left for a restart, and its assignment is reserved"},
	}, c.Coverage.Problems)
	require.NoError(t, b.Join(t.Context()))

	put(t, "stranger", "1")
	require.Contains(t, ls(t), "covered: every index is held once, but:\n  orphan, stranger: its record has no lease")
}

func TestWhoWatchesSeesWhenSomethingIsHeldByNobody(t *testing.T) {
	t.Parallel()
	require.NoError(t, instance(t, "a", libcluster.ModePlanned, nil).Join(t.Context()))
	p := start(t, "watch", "-k", key(t), "-r", etcdURL(t))
	p.Stdout.AwaitText(t, "covered: every index is held once\n")
	put(t, "stranger", "1") // which is no change of the plan's
	p.Stdout.AwaitText(t, "orphan, stranger: ")
	remove(t, "stranger")
	p.Stdout.Await(t, "that it is covered again", func(text string) bool {
		return strings.Count(text, "covered: every index is held once\n") == 2
	})
}

func TestThatItCannotBeToldIsSaid(t *testing.T) {
	c, err := libcluster.New(libcluster.Config{Key: "k", Registry: libcluster.Static(0, 1)})
	require.NoError(t, err)
	l := &looker{cluster: c}
	require.Equal(t, "cannot tell whether every index is held: left, or never joined\n", l.covered(context.Background()).text(libcluster.ModeDirect))
}
