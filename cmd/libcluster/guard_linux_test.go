package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/libcluster/libcluster/internal/operator"
)

// Whatever is killed, nothing stays behind.

func TestKilledProgramLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	p := execute(t, with(inFolder(t), "--ttl", unfenced, "--", "sh", "-c", family)...)
	pids := p.await(t, places)[2:]
	guard := guardOf(t, pids[0])
	require.NoError(t, syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL), "with all of its group")
	awaitGone(t, append(pids, guard)...)
}

func TestKilledGuardLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	p := execute(t, with(inFolder(t), "--ttl", unfenced, "--", "sh", "-c", family)...)
	pids := p.await(t, places)[2:]
	require.NoError(t, syscall.Kill(guardOf(t, pids[0]), syscall.SIGKILL))
	status, _ := p.ends(t)
	require.Equal(t, 128+int(syscall.SIGKILL), status)
	requireGone(t, pids...)
}

// A Go program that crashes ends with status 2, as its command may.
func TestCrashedGuardLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGABRT, syscall.SIGSEGV} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			p := execute(t, with(inFolder(t), "--ttl", unfenced, "--", "sh", "-c", family)...)
			pids := p.await(t, places)[2:]
			defer killAll(pids)
			require.NoError(t, syscall.Kill(guardOf(t, pids[0]), s))
			<-p.ended // its output ends with the last of those who write it
			requireGone(t, pids...)
			status, text := p.ends(t)
			require.Equal(t, 2, status)
			require.Contains(t, text, "worker 0: the guard of COMMAND has failed with status 2")
		})
	}
}

// killAll kills what a test that has failed leaves behind.
func killAll(pids []int) {
	for _, pid := range pids {
		if !isGone(pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// Nobody is left who could end what has been started, and so the system ends the command.
// Its descendants it does not end.
func TestCommandEndsWithTheProgramAndItsGuard(t *testing.T) {
	t.Parallel()
	p := execute(t, with(inFolder(t), "--ttl", unfenced, "--", "sh", "-c", `echo command $$; exec sleep 1000000`)...)
	command := p.await(t, `command (\d+)`)
	guard := guardOf(t, command[0])
	require.NoError(t, syscall.Kill(guard, syscall.SIGSTOP))
	p.signal(t, syscall.SIGKILL)
	<-p.ended
	require.NoError(t, syscall.Kill(guard, syscall.SIGKILL))
	awaitGone(t, command...)
}

func TestKilledCommandIsRestartedAfterItsDescendants(t *testing.T) {
	t.Parallel()
	p := execute(t, with(inFolder(t), "--ttl", unfenced, "--grace", "0s", "--restart", "--", "sh", "-c", family)...)
	pids := p.await(t, places)[2:]
	require.NoError(t, syscall.Kill(pids[0], syscall.SIGKILL))
	p.await(t, places)
	requireGone(t, pids...)
	p.terminate(t)
}

func TestKilledGrandchildIsTheCommandsMatter(t *testing.T) {
	t.Parallel()
	p := execute(t, with(inFolder(t), "--ttl", unfenced, "--", "sh", "-c", `sleep 1000000 & echo child $!; wait $!; exit 5`)...)
	child := p.await(t, `child (\d+)`)
	require.NoError(t, syscall.Kill(child[0], syscall.SIGKILL))
	status, _ := p.ends(t)
	require.Equal(t, 5, status)
	requireGone(t, child...)
}

// The others go on while the program stands still.
func TestStoppedProgramsCommandEndsAtTheDeadline(t *testing.T) {
	t.Parallel()
	args := with(inFolder(t), "--mode", "exclusive", "--ttl", "2s", "--grace", "10m")
	a := execute(t, with(args, "-i", "a", "--", "sh", "-c", family)...)
	pids := a.await(t, places)[2:]
	a.signal(t, syscall.SIGSTOP)
	awaitGone(t, pids...)
	b := execute(t, with(args, "-i", "b", "--", "sh", "-c", family)...)
	b.await(t, "at 0 of 1")
	a.signal(t, syscall.SIGCONT)
	a.signal(t, syscall.SIGKILL) // before b has to stop, which takes its grace period
}

// guarding has a guard run a shell command that it is told to end by a time from now, and
// then by others. It returns the result.
func guarding(t *testing.T, script string, left ...time.Duration) error {
	t.Helper()
	x := &execution{guards: guards{pids: map[int]bool{}}}
	g, err := x.start("test", os.Environ())
	require.NoError(t, err)
	next := order{Start: []string{"/bin/sh", "sh", "-c", script}}
	for _, d := range left {
		next.Until = bootClock() + int64(d)
		require.NoError(t, g.tell(next))
		next = order{}
	}
	select {
	case <-g.ended:
	case <-time.After(patience):
		require.FailNow(t, "the guard does not end")
	}
	return g.result("test")
}

func TestGuardThatHearsNothingEndsTheCommandAtTheDeadlineAndSaysSo(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, guarding(t, "sleep 1000000", time.Hour, time.Second), errDeadline)
}

func TestGuardThatStartsLateStartsTheCommandUnderALaterDeadline(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, guarding(t, "exit 3", -time.Second, time.Hour), "status 3")
}

func TestGuardStartsNothingAfterTheDeadlineAndWaitsForALaterOne(t *testing.T) {
	t.Parallel()
	timer, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(timer)
	orders, rings, ended := make(chan order), make(chan struct{}), make(chan struct{})
	g := &guard{orders: orders, alarm: &alarm{rings, timer}}
	go func() {
		defer close(ended)
		_, _ = g.run()
	}()
	orders <- order{Start: []string{"/bin/true", "true"}, Until: bootClock()}
	select {
	case rings <- struct{}{}:
	case <-ended:
		require.FailNow(t, "it has not waited for a ring")
	}
	select {
	case orders <- order{Stop: true}:
	case <-ended:
		require.FailNow(t, "it has not waited for an order")
	}
	<-ended
	require.Zero(t, g.pid)
	require.True(t, g.ordered, "and says why")
}

// To find the children takes a look at every process of the machine. With one for each that ends, a
// thousand would take minutes.
func TestGuardLooksOnceForTheChildrenOfAllThatHaveEndedMeanwhile(t *testing.T) {
	t.Parallel()
	g := &guard{pid: 1, again: make(chan time.Time)}
	later := g.again
	g.note(ending{pid: 2})
	require.NotEqual(t, later, g.again, "it looks soon")
	soon := g.again
	g.note(ending{pid: 3})
	require.Equal(t, soon, g.again)
}

// killTwice tries to kill a process, twice.
func killTwice(pid string) {
	n, err := strconv.Atoi(pid)
	if err != nil {
		panic(err)
	}
	k := killer{log: operator.NewLogger(zap.ErrorLevel, os.Stderr)}
	k.kill(n)
	k.kill(n)
	os.Exit(0)
}

func TestProcessOfAnotherUserThatCannotBeKilledIsLoggedOnce(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 && os.Getenv("CI") == "" { // CI is root, and this fails there if it is not
		t.Skip("needs root to become another user")
	}
	other := exec.Command("sleep", "1000000")
	require.NoError(t, other.Start())
	defer func() { _, _ = other.Process.Kill(), other.Wait() }()
	nobody := exec.Command("/proc/self/exe", asKiller, strconv.Itoa(other.Process.Pid))
	nobody.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	said, err := nobody.CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Regexp(t, fmt.Sprintf(`^[0-9:.]+ ERROR cannot kill a process of another user.* {"pid": %d}\n$`, other.Process.Pid), string(said))
	require.False(t, isGone(other.Process.Pid))
}

// A guard that stands still does not hold up the others, nor is its command left alone.
func TestStoppedGuardIsKilled(t *testing.T) {
	t.Parallel()
	args := with(inFolder(t), "--mode", "exclusive", "--ttl", unfenced, "--grace", "200ms")
	a := execute(t, with(args, "-i", "a", "--", "sh", "-c", family)...)
	pids := a.await(t, places)[2:]
	require.NoError(t, syscall.Kill(guardOf(t, pids[0]), syscall.SIGSTOP))
	b := execute(t, with(args, "-i", "b", "--", "sh", "-c", family)...)
	b.await(t, "at 1 of 2")
	requireGone(t, pids...)
	a.await(t, "at 0 of 2")
	a.terminate(t)
	b.terminate(t)
}
