//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
)

const (
	// guardSlack is for how long a guard may be late. Then it has been stopped, and is killed.
	guardSlack = 100 * time.Millisecond

	// tellTimeout bounds telling a guard something. A guard that is stopped reads nothing.
	tellTimeout = time.Second

	// leastAgain is how soon the deadline is asked for again, at the least.
	leastAgain = time.Millisecond

	// lastOutput bounds the wait for output that a reader does not take.
	lastOutput = time.Second
)

// errDeadline: the guard has ended the command, since the deadline has passed.
var errDeadline = errors.New("ended at the deadline")

// command runs the command once, and returns when it has ended with all its descendants. An
// error before ctx has ended is the command's failure. name is for people.
func (x *execution) command(ctx context.Context, name string, env []string) error {
	for err := errDeadline; ; err = x.once(ctx, name, env) {
		if left, ends := libcluster.TimeLeft(ctx); ends && left == 0 {
			<-ctx.Done() // in a moment: the command has only done as it was told
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case !errors.Is(err, errDeadline): // which a guard may see pass a moment before this process does
			return err
		}
	}
}

func (x *execution) once(ctx context.Context, name string, env []string) error {
	g, err := x.start(name, env)
	if err != nil {
		return fmt.Errorf("cannot start a guard: %w", err)
	}
	g.lead(ctx, order{Start: append([]string{x.path}, x.args...), Signal: syscall.Signal(x.signal), Grace: x.grace})
	return g.result(name)
}

// guarded is a command and its guard, as this process sees them.
type guarded struct {
	cmd     *exec.Cmd
	orders  *os.File
	ended   chan struct{} // closed when the guard has ended
	crashed bool          // it has ended before its command, or did not start it; with ended
}

// start starts a guard, which waits for orders.
func (x *execution) start(name string, env []string) (*guarded, error) {
	self, err := ownProgram()
	if err != nil {
		return nil, err
	}
	theirs, orders, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	last, allEnded, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, orders.Close())
	}
	defer allEnded.Close()
	g := &guarded{orders: orders, ended: make(chan struct{})}
	g.cmd = &exec.Cmd{
		// The name is not this program's: who kills all that are called libcluster, or as
		// the command is, shall not hit the guards.
		Path: self, Args: []string{guardName, name}, Env: env,
		ExtraFiles:  []*os.File{theirs, allEnded},
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true}, // nor who kills this process group
	}
	out, err := x.connect(g.cmd, name+": ")
	if err == nil {
		err = x.guards.start(g.cmd)
		out.close()
	}
	if err != nil {
		return nil, errors.Join(err, orders.Close(), last.Close())
	}
	go func() {
		defer last.Close()
		_ = g.cmd.Wait() // result says how it has ended
		n, _ := last.Read(make([]byte, 1))
		g.crashed = n == 0
		x.guards.ended(g.cmd, g.crashed)
		await(&out.copying, lastOutput)
		_ = orders.Close()
		close(g.ended)
	}()
	return g, nil
}

// await waits for a group, but not longer than most.
func await(group *sync.WaitGroup, most time.Duration) {
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(most):
	}
}

// lead gives the guard its orders until it has ended. The first one starts the command.
func (g *guarded) lead(ctx context.Context, first order) {
	passed := make(chan os.Signal, 1)
	signal.Notify(passed, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(passed)
	until, due := deadlineOf(ctx)
	stop, late := ctx.Done(), (<-chan time.Time)(nil)
	for next := first; ; {
		next.Until = until
		if g.tell(next) != nil {
			_ = g.cmd.Process.Kill() // an error says that it has ended
		}
		next = order{}
		select {
		case <-g.ended:
			return
		case <-late:
			_ = g.cmd.Process.Kill()
		case <-stop:
			stop, late = nil, time.After(first.Grace+guardSlack)
			next.Stop = true
		case s := <-passed:
			next.Pass = s.(syscall.Signal)
		case <-due:
			if later, again := deadlineOf(ctx); again != nil {
				until, due = later, again
			} else { // fenced: the deadline moves no more
				stop, due = nil, nil
				late = time.After(time.Duration(until-bootClock()) + guardSlack)
				next.Stop = true
			}
		}
	}
}

// deadlineOf returns by when a function of Run has to have stopped, by bootClock, and when
// to ask again. It is 0 if there is no limit. Once the instance is fenced it is the present,
// and there is nothing to ask any more.
func deadlineOf(ctx context.Context) (until int64, again <-chan time.Time) {
	clock := bootClock() // first: if this process stands still before the next line, that gains no time
	left, ends := libcluster.TimeLeft(ctx)
	switch {
	case !ends:
		return 0, make(chan time.Time)
	case left == 0:
		return clock, nil
	}
	return clock + int64(left), time.After(max(left/8, leastAgain))
}

func (g *guarded) tell(o order) error {
	if err := g.orders.SetWriteDeadline(time.Now().Add(tellTimeout)); err != nil {
		return err
	}
	return json.NewEncoder(g.orders).Encode(o)
}

// result is how the command has ended, after its guard has: nil for status 0.
func (g *guarded) result(name string) error {
	status := g.cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled() && status.Signal() == deadlineSignal:
		return errDeadline
	case g.crashed:
		return statusError{fmt.Errorf("%s: the guard of COMMAND has failed with status %d", name, shellStatus(status)), shellStatus(status)}
	case shellStatus(status) != 0:
		return statusError{fmt.Errorf("%s: COMMAND has ended with status %d", name, shellStatus(status)), shellStatus(status)}
	}
	return nil
}

// guards are those that run. They and what a crashed one has left behind are this process's
// children.
type guards struct {
	killer killer

	mu   sync.Mutex // guards what follows, and is held while one starts
	pids map[int]bool
}

// prepare has this process inherit what a guard that has crashed leaves behind.
func (g *guards) prepare(log *zap.Logger) error {
	g.killer.log, g.pids = log, map[int]bool{}
	return inheritOrphans()
}

func (g *guards) start(cmd *exec.Cmd) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	g.pids[cmd.Process.Pid] = true
	return nil
}

// ended notes that a guard has ended. What a guard that has crashed has left behind is killed.
// A crash may look like a COMMAND's end: a Go program that has no memory left ends with status 2.
func (g *guards) ended(cmd *exec.Cmd, crashed bool) {
	g.mu.Lock()
	delete(g.pids, cmd.Process.Pid)
	g.mu.Unlock()
	if crashed {
		for g.endOrphans() {
			time.Sleep(killAgain)
		}
	}
}

// endOrphans kills and reaps this process's children but the guards. It reports whether
// there were any.
func (g *guards) endOrphans() (any bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, child := range children() {
		if !g.pids[child.pid] {
			any = true
			g.killer.kill(child.pid)
			_, _ = syscall.Wait4(child.pid, nil, syscall.WNOHANG, nil)
		}
	}
	return any
}
