package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testhost"
)

const printPlace = `echo $LIBCLUSTER_INDEX $LIBCLUSTER_WORKERS $LIBCLUSTER_TOTAL g$LIBCLUSTER_GENERATION; exit 0`

func TestCommandFindsItsAssignmentInTheEnvironment(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string][]string{
		"":               {"^0 1 3 g[1-9]", "^1 1 3 g[1-9]", "^2 1 3 g[1-9]"},
		"--per-instance": {"^0 3 3 g[1-9]"},
		"--primary":      {"^0 3 3 g[1-9]"},
		"--prefix":       {"^worker 0: 0 1 3 g", "^worker 1: 1 1 3 g", "^worker 2: 2 1 3 g"},
	} {
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			args := with(inFolder(t), "-n", "3")
			if flag != "" {
				args = append(args, flag)
			}
			status, text := execute(t, with(args, "--", "sh", "-c", printPlace)...).ends(t)
			require.Zero(t, status, "%s", text)
			for _, line := range want {
				require.Regexp(t, "(?m)"+line, text)
			}
			require.Equal(t, len(want), strings.Count(text, " 3 g"), "%s", text)
		})
	}
}

// Only the command of what moves is ended.
func TestInModeCooperativeACommandRunsForEachPartition(t *testing.T) {
	t.Parallel()
	args := with(inFolder(t), "--mode", "cooperative", "--partitions", "2", "--ttl", unfenced, "--grace", "10m")
	work := `trap "echo $LIBCLUSTER_PARTITION is told to stop; exit 0" TERM
		echo $LIBCLUSTER_PARTITION of $LIBCLUSTER_PARTITIONS, g$LIBCLUSTER_GENERATION; while :; do sleep 0.01; done`
	a := execute(t, with(args, "-i", "a", "--prefix", "--", "sh", "-c", work)...)
	for range 2 {
		a.await(t, `^partition ([01]): ([01]) of 2, g[1-9]`)
	}
	b := execute(t, with(args, "-i", "b", "--", "sh", "-c", work)...)
	b.await(t, `^1 of 2, g[1-9]`)
	b.terminate(t)
	a.await(t, `^partition 1: 1 of 2, g[1-9]`)
	require.NotContains(t, strings.Join(a.read, "\n"), "0 is told to stop")
	a.terminate(t)
}

func TestCommandGetsNoPasswordOfThisProgram(t *testing.T) {
	for _, name := range []string{"LIBCLUSTER_PASSWORD", "LIBCLUSTER_SECRET", "LIBCLUSTER_TOKEN", "ETCDCTL_USER", "ETCDCTL_PASSWORD"} {
		t.Setenv(name, "s3cret")
	}
	t.Setenv("LIBCLUSTER_REGISTRY", "dir:"+t.TempDir())
	t.Setenv("LIBCLUSTER_WORKERS", "2")
	t.Setenv("OTHER", "kept")
	status, text := execute(t, "-v", "--", "env").ends(t)
	require.Zero(t, status)
	require.Contains(t, text, "OTHER=kept")
	require.Contains(t, text, "LIBCLUSTER_TOTAL=2")
	require.Contains(t, text, "libcluster: --registry is taken from LIBCLUSTER_REGISTRY")
	require.NotContains(t, text, "s3cret")
	require.NotContains(t, text, "LIBCLUSTER_REGISTRY=")
	t.Setenv("LIBCLUSTER_USER", "root:s3cret") // not for a folder
	require.NotContains(t, strings.Join(environment(), "\n"), "s3cret")
}

func TestExitStatusIsThatOfTheCommand(t *testing.T) {
	t.Parallel()
	plain := filepath.Join(t.TempDir(), "plain")
	require.NoError(t, os.WriteFile(plain, nil, 0o600))
	for _, c := range []struct {
		want    int
		command []string
	}{
		{0, []string{"true"}},
		{2, []string{"sh", "-c", "exit 2"}},
		{7, []string{"sh", "-c", "exit 7"}},
		{137, []string{"sh", "-c", "kill -9 $$"}},
		{143, []string{"sh", "-c", "kill $$"}},
		{exitNotFound, []string{"no-such-command"}},
		{exitNotFound, []string{plain + "s"}},
		{exitCannotRun, []string{plain}},
	} {
		status, text := execute(t, with(inFolder(t), with([]string{"--"}, c.command...)...)...).ends(t)
		require.Equal(t, c.want, status, "%s", text)
	}
}

// The second worker goes on until it is told to stop.
func TestFailureOfOneWorkerEndsTheOthers(t *testing.T) {
	t.Parallel()
	status, text := execute(t, with(inFolder(t), "-n", "2", "--", "sh", "-c",
		`if [ $LIBCLUSTER_INDEX = 0 ]; then exit 3; fi; trap "echo told to stop; exit 0" TERM; while :; do sleep 0.01; done`)...).ends(t)
	require.Equal(t, 3, status)
	require.Contains(t, text, "worker 0: COMMAND has ended with status 3")
}

func TestChangeEndsTheGroupAndThenRunsTheCommandAgain(t *testing.T) {
	t.Parallel()
	args := with(inFolder(t), "--mode", "exclusive", "--ttl", unfenced)
	polite := `trap "echo told to stop; exit 0" INT; echo at $LIBCLUSTER_INDEX of $LIBCLUSTER_TOTAL; while :; do sleep 0.01; done`
	a := execute(t, with(args, "-i", "a", "--signal", "INT", "--grace", "10m", "--", "sh", "-c", polite)...)
	a.await(t, "at 0 of 1")
	b := execute(t, with(args, "-i", "b", "--grace", "0s", "--", "sh", "-c", family)...)
	a.await(t, "told to stop")
	a.await(t, "at 0 of 2")
	b.await(t, "at 1 of 2")
	b.terminate(t)
	a.await(t, "told to stop")
	a.await(t, "at 0 of 1")
	a.terminate(t)
}

func TestWhatIgnoresTheSignalIsKilledWithAllDescendantsBeforeTheOthersGoOn(t *testing.T) {
	t.Parallel()
	args := with(inFolder(t), "--mode", "exclusive", "--ttl", unfenced, "--grace", "200ms")
	a := execute(t, with(args, "-i", "a", "--", "sh", "-c", family)...)
	pids := a.await(t, places)[2:]
	b := execute(t, with(args, "-i", "b", "--", "sh", "-c", family)...)
	b.await(t, "at 1 of 2")
	requireGone(t, pids...)
	a.await(t, "at 0 of 2")
	b.terminate(t)
	pids = a.await(t, "at 0 of 1: (\\d+) (\\d+) (\\d+)")
	a.terminate(t)
	requireGone(t, pids...)
}

func TestWhatACommandLeavesBehindIsEndedWithIt(t *testing.T) {
	t.Parallel()
	p := execute(t, with(inFolder(t), "--grace", "0s", "--", "sh", "-c", `sleep 1000000 & echo child $!; exit 4`)...)
	child := p.await(t, `child (\d+)`)
	status, _ := p.ends(t)
	require.Equal(t, 4, status)
	requireGone(t, child...)
}

// The child has time to finish, though its shell has ended at once.
func TestGraceIsForTheWholeGroup(t *testing.T) {
	t.Parallel()
	p := execute(t, with(inFolder(t), "--ttl", unfenced, "--grace", "10m", "--", "sh", "-c",
		`sh -c 'trap "sleep 0.3; echo finished; exit 0" TERM; echo ready; while :; do sleep 0.01; done'; echo never`)...)
	p.await(t, "ready")
	p.signal(t, syscall.SIGTERM)
	status, text := p.ends(t)
	require.Zero(t, status)
	require.Contains(t, text, "finished")
	require.NotContains(t, text, "never")
}

// The record is renewed while the command ends, and so is the deadline.
func TestGraceMayBeLongerThanTheTimeToTheDeadline(t *testing.T) {
	t.Parallel()
	p := execute(t, with(inFolder(t), "--ttl", "4s", "--grace", "10m", "--", "sh", "-c",
		`trap "sleep 5; echo finished; exit 0" TERM; echo ready; while :; do sleep 0.01; done`)...)
	p.await(t, "ready")
	p.terminate(t)
	require.Contains(t, strings.Join(p.read, "\n"), "finished")
}

func TestSignalLeavesAfterTheCommandsHaveEnded(t *testing.T) {
	t.Parallel()
	args := with(inFolder(t), "--ttl", unfenced, "--grace", "0s")
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		a := execute(t, with(args, "-i", "a", "--", "sh", "-c", family)...)
		pids := a.await(t, places)[2:]
		a.signal(t, s)
		status, text := a.ends(t)
		require.Zero(t, status, "%s", text)
		requireGone(t, pids...)
	}
	b := execute(t, with(args, "-i", "b", "--", "sh", "-c", printPlace)...)
	status, text := b.ends(t)
	require.Zero(t, status)
	require.Contains(t, text, "0 1 1 ", "nobody is left in the registry")
}

func TestUserSignalsArePassedOn(t *testing.T) {
	t.Parallel()
	p := execute(t, with(inFolder(t), "--", "sh", "-c", `trap "echo first; exit 0" USR1; echo ready; while :; do sleep 0.01; done`)...)
	p.await(t, "ready")
	p.signal(t, syscall.SIGUSR1)
	status, text := p.ends(t)
	require.Zero(t, status)
	require.Contains(t, text, "first")
}

func TestOnlyThePrimaryRunsTheCommand(t *testing.T) {
	t.Parallel()
	args := with(inFolder(t), "--ttl", unfenced, "--primary", "--grace", "0s")
	a := execute(t, with(args, "-i", "a", "--", "sh", "-c", family)...)
	a.await(t, "at 0 of 1")
	b := execute(t, with(args, "-i", "b", "-v", "--", "sh", "-c", family)...)
	b.await(t, `"index": 1,`)
	a.terminate(t)
	b.await(t, "at 0 of 1")
	require.NotContains(t, strings.Join(b.read, "\n"), "at 1 of")
	b.terminate(t)
}

// Nobody reads what it writes. It leaves all the same.
func TestOutputThatNobodyReadsHoldsUpNothing(t *testing.T) {
	t.Parallel()
	folder := inFolder(t)
	a := execute(t, with(folder, "-i", "a", "--prefix", "--mode", "exclusive", "--ttl", unfenced, "--grace", "0s", "--", "yes")...)
	for range 2 * cap(a.lines) {
		a.await(t, "^worker 0: y$")
	}
	b := execute(t, with(folder, "-i", "b", "--mode", "exclusive", "--ttl", unfenced, "--", "sh", "-c", printPlace)...)
	status, text := b.ends(t)
	require.Zero(t, status)
	require.Contains(t, text, "1 1 2 ")
}

func TestTakenIDIsSaidWithWhatToDo(t *testing.T) {
	t.Parallel()
	args := with(inFolder(t), "-i", "a", "--grace", "0s", "--", "sh", "-c", family)
	a := execute(t, args...)
	a.await(t, places)
	b := execute(t, args...)
	status, text := a.ends(t)
	require.Equal(t, exitFailed, status)
	require.Contains(t, text, `another instance has taken over the ID "a": give each instance its own with --id`)
	b.await(t, places)
	b.terminate(t)
}

func TestLogSpeaksOfFlags(t *testing.T) {
	t.Parallel()
	p := execute(t, "-r", "http://"+testhost.FreeAddress(t), "--", "true")
	p.await(t, "WARN  cannot join yet.*nobody listens there; check -r/--registry")
	p.terminate(t)
	p = execute(t, with(inFolder(t), "--mode", "direct", "--primary", "--", "sleep", "1000000")...)
	p.await(t, "WARN .*give --mode planned or exclusive to have a primary that stays")
	p.terminate(t)
}

func TestInstanceThatCannotJoinInTimeEndsWithStatus3(t *testing.T) {
	t.Parallel()
	status, text := execute(t, "-r", "http://"+testhost.FreeAddress(t), "--timeout", "6s", "--", "true").ends(t)
	require.Equal(t, exitUnseen, status, "%s", text)
	require.Contains(t, text, "libcluster: cannot join the cluster: join test/production: not joined within 6s; see --timeout; last: etcd at http://")
	require.Contains(t, text, "nobody listens there; check -r/--registry")
}

func TestTimeIsForTheFirstJoinOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cluster, err := libcluster.New(libcluster.Config{Key: "m", Registry: libcluster.Static(0, 1), Logger: zap.NewNop()})
		require.NoError(t, err)
		x := &execution{timeout: time.Minute}
		require.NoError(t, x.inTime(t.Context(), cluster, func(ctx context.Context) error {
			return cluster.Run(ctx, func(ctx context.Context, _ libcluster.State) error {
				time.Sleep(time.Hour)
				assert.NoError(t, ctx.Err(), "it has joined, and yet it is told to end")
				return nil
			})
		}))
		err = x.inTime(t.Context(), cluster, func(ctx context.Context) error {
			<-ctx.Done() // before the cluster is joined, as where the registry has to be opened
			return ctx.Err()
		})
		require.Equal(t, statusError{errors.New("cannot join the cluster: not joined within 1m0s; see --timeout; last: context canceled"), exitUnseen}, err)
	})
}
