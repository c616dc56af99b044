package peers_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// forLong is a mode in which no record expires while a test runs: what is known of a crash was
// noticed.
const forLong = "direct 1h"

func TestCrashOfThePrimaryIsKnown(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, forLong, files(t, 3, nil)...)
	awaitAll(t, "a", 3, all...)
	settled(t, all...)
	began := time.Now()
	all[0].kill()
	known := awaitAll(t, "b", 2, all[1:]...)
	t.Log("known after", known.Sub(began))

	again := spawn(t, all[0].file, forLong)
	awaitAll(t, "a", 3, append(all[1:], again)...)
}

func TestCrashOfTheLeaderIsKnown(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, forLong, files(t, 3, nil)...)
	awaitAll(t, "a", 3, all...)
	settled(t, all...)
	lead := leader(t, all...)
	began := time.Now()
	lead.kill()
	known := awaitAll(t, "a", 2, without(lead, all)...)
	t.Log("known after", known.Sub(began))
}

func TestLeaderMovesAwayFromThePrimary(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, "direct", files(t, 3, nil)...)
	awaitAll(t, "a", 3, all...)
	settled(t, all...)
	status, err := statusOf(all[0])
	require.NoError(t, err)
	client, _, err := clientTo(leader(t, all...).file)
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, _ = client.MoveLeader(ctx, status.Header.MemberId) // it may not see that the leader has moved twice
	eventually(t, "the leader has moved to the primary, and away", func() bool {
		now, err := statusOf(all[1])
		return err == nil && now.RaftTerm >= status.RaftTerm+2
	})
	settled(t, all...)
}

// A patient peer waits for the record to expire, which an impatient one has revoked long
// before: at the end of the process the record still lives.
func TestPatientPeersWaitForTheTTL(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, "direct", files(t, 3, map[string]any{"patient": true})...)
	awaitAll(t, "a", 3, all...)
	began := time.Now()
	all[2].kill()
	known := awaitAll(t, "a", 2, all[:2]...)
	require.Greater(t, known.Sub(began), time.Second, "an instance that was not fenced had renewed its record in the last 1.8 s, and it lives for 3 s")
}
