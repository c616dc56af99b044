package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// The third instance joins two. What mode cooperative does not stop mode exclusive does.
func TestNoAccountIsStoppedThatDoesNotMove(t *testing.T) {
	const accounts = 10000
	inVain := make(map[libcluster.Mode]int)
	for _, mode := range []libcluster.Mode{libcluster.ModeExclusive, libcluster.ModeCooperative} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // a watchdog
		defer cancel()
		var out strings.Builder
		var err error
		inVain[mode], err = run(ctx, &out, mode, 3, accounts)
		require.NoError(t, err, "%s", out.String())
		t.Log(out.String())
		require.Equal(t, 3, strings.Count(out.String(), "\n"))
	}
	t.Logf("of %d accounts, stopped although they did not move: %d in mode exclusive, %d in mode cooperative",
		accounts, inVain[libcluster.ModeExclusive], inVain[libcluster.ModeCooperative])
	require.Zero(t, inVain[libcluster.ModeCooperative])
	require.Greater(t, inVain[libcluster.ModeExclusive], accounts/2)
}
