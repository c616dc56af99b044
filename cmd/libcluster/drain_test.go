package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testhost"
)

func TestOperatorsDrainAndUndrainAMember(t *testing.T) {
	t.Parallel()
	for _, mode := range []libcluster.Mode{
		libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive, libcluster.ModeCooperative,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			where := []string{"-k", key(t), "-r", etcdURL(t)}
			on := func(command string, more ...string) []string {
				return append(append([]string{command}, where...), more...)
			}
			a, b := joined(t, mode, "a", 1, where...), joined(t, mode, "b", 1, where...)
			require.Eventually(t, func() bool { return a.State().Active() && b.State().Active() }, patience, time.Millisecond)

			require.Equal(t, "a is drained\n", printed(t, on("drain", "a")...))
			require.Equal(t, "a is drained\n", printed(t, on("drain", "a")...))
			require.Eventually(t, func() bool { return b.State().Primary() }, patience, time.Millisecond)
			require.Eventually(t, func() bool { return !a.State().Active() }, patience, time.Millisecond)
			require.ErrorIs(t, a.Err(), libcluster.ErrDrained)
			require.Contains(t, printed(t, on("ls")...), "but:\n  draining, a: an operator drains it")
			require.Contains(t, printed(t, on("check")...), "covered: ")

			require.Equal(t, "a is not drained\n", printed(t, on("undrain", "a")...))
			require.Equal(t, "a is not drained\n", printed(t, on("undrain", "a")...))
			require.Eventually(t, func() bool { return a.State().Active() }, patience, time.Millisecond)
		})
	}
}

func TestDrainSaysWhatIsInItsWay(t *testing.T) {
	t.Parallel()
	where := []string{"-k", key(t), "-r", etcdURL(t)}
	on := func(command string, more ...string) []string {
		return append(append([]string{command}, where...), more...)
	}
	a := joined(t, libcluster.ModePlanned, "a", 1, where...)

	status, text := failing(t, on("drain", "b")...)
	require.Equal(t, exitFailed, status)
	require.Equal(t, "libcluster: no member \"b\"; see libcluster ls\n", text)
	require.NotContains(t, printed(t, on("ls")...), "draining")

	// It is asked for already, so that the command knows why from its first look. The time that it is
	// given is one in which a slow machine sees the cluster.
	require.NoError(t, a.Drain(t.Context(), "a"))
	for timeout := time.Second; timeout < patience; timeout *= 2 {
		status, text = failing(t, on("drain", "a", "--timeout", timeout.String())...)
		if status != exitUnseen {
			break
		}
	}
	require.Equal(t, exitFailed, status)
	require.Equal(t, "libcluster: \"a\" still holds an assignment, since all members drain, and so it is as if none did\n", text)

	require.NoError(t, a.SetDraining(t.Context(), true))
	status, text = failing(t, on("undrain", "a")...)
	require.Equal(t, exitFailed, status)
	require.Contains(t, text, "by its own wish")

	status, text = failing(t, on("undrain", "a/b")...)
	require.Equal(t, exitUsage, status)
	require.Contains(t, text, `ID "a/b"`)
	status, _ = failing(t, on("drain")...)
	require.Equal(t, exitUsage, status)
}

func TestNobodyIsDrainedWhereInstancesGossip(t *testing.T) {
	t.Parallel()
	address := testhost.FreeAddress(t)
	where := []string{"-k", key(t), "-r", "gossip:" + address}
	joined(t, libcluster.ModeDirect, "a", 1, where...)
	for _, command := range []string{"drain", "undrain"} {
		status, text := failing(t, append([]string{command, "a"}, where...)...)
		require.Equal(t, exitUsage, status, text)
		require.Contains(t, text, "libcluster: gossip with "+address)
		require.Contains(t, text, ": keeps nothing that operators ask for, so no member can be drained here; end it instead; try 'libcluster "+command+" --help'")
	}
}
