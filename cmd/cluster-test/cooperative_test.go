package main

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// awaitPartitions waits until the newest states hold these partitions, by instance.
func (c console) awaitPartitions(t *testing.T, want map[string]string) {
	t.Helper()
	c.Await(t, fmt.Sprint("the partitions ", want), func(text string) bool {
		held := map[string]string{}
		for _, r := range records(t, text) {
			held[r.Instance] = r.Partitions
		}
		return maps.Equal(held, want)
	})
}

func TestInCooperativeModeTheTranscriptHasPartitions(t *testing.T) {
	t.Parallel()
	const work = 300 * time.Millisecond // to be ended before a partition is given away
	args := []string{"--json", "-k", key(t), "-r", etcdURL(t), "--mode", "cooperative", "--partitions", "8", "--work", work.String()}
	a := start(t, append(args, "-i", "a")...)
	a.stdout.awaitPartitions(t, map[string]string{"a": "0-7"})
	began := time.Now()
	b := start(t, append(args, "-i", "b", "-n", "3")...)
	b.stdout.awaitPartitions(t, map[string]string{"b": "2-7"})
	require.GreaterOrEqual(t, time.Since(began), work)
	a.Signal()
	require.Equal(t, exitOK, a.Ends(t))
	b.stdout.awaitPartitions(t, map[string]string{"b": "0-7"})
	b.Signal()
	require.Equal(t, exitOK, b.Ends(t))

	block := func(partitions string, threads int) string {
		return fmt.Sprintf("cluster-test: cluster has re-balanced:\n"+
			"   instance partitions:   %s\n   instance thread count: %d\n   total partitions:      8\n", partitions, threads)
	}
	for _, partitions := range []string{"0-7", "0-1", "none"} {
		require.Contains(t, a.stderr.String(), block(partitions, 1))
	}
	for _, partitions := range []string{"2-7", "0-7", "none"} {
		require.Contains(t, b.stderr.String(), block(partitions, 3))
	}
	for _, r := range records(t, a.stdout.String()) {
		require.Equal(t, r.Partitions != "", r.Index == 0, "%v", r)
		require.Equal(t, 8, r.Total)
	}
}
