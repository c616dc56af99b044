//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/operator"
)

// guardName is what a guard is called in a list of processes.
const guardName = "worker-guard"

// ordersFile is where a guard reads its orders, and allEndedFile where it says, as the last thing
// it does, that its command has ended with all descendants. A guard that crashes says nothing.
const (
	ordersFile   = 3
	allEndedFile = 4
)

// killAgain is how often SIGKILL is sent to what is still there, and killSoon how soon after a
// process has ended, whose children are the guard's then. To find all children takes a look at
// every process of the machine, so that is not done for each of a thousand that end.
const (
	killAgain = 20 * time.Millisecond
	killSoon  = time.Millisecond
)

// deadlineSignal is what a guard dies of when it has ended its command at the deadline. When
// others send it the signal has no effect. Of those that end a Go program by default it is one
// that cannot be ignored from the start.
const deadlineSignal = syscall.SIGTERM

// order is what a guard is told. Several fields may be set.
type order struct {
	Start  []string       `json:",omitempty"` // the command's file, and its arguments from its name on
	Signal syscall.Signal `json:",omitempty"` // with Start: what asks the command to end
	Grace  time.Duration  `json:",omitempty"` // with Start: how long it then has
	Until  int64          `json:",omitempty"` // by bootClock: all has to be gone by then, unless another order comes
	Stop   bool           `json:",omitempty"` // end the command
	Pass   syscall.Signal `json:",omitempty"` // pass a signal on
}

// guard is a process that runs one command for libcluster exec. It ends when the command
// and all its descendants have ended, whatever has become of the process that gives it
// orders. That one may be killed or stopped, and the command must be gone before another
// instance may start.
type guard struct {
	orders <-chan order  // closed when nobody is there to give any
	ended  <-chan ending // of children; closed when there are none
	alarm  *alarm
	killer killer

	first    order // what to start
	pid      int   // of the command, and of its group; 0: not started
	until    int64 // the deadline; 0: none
	ordered  bool  // the command was killed, or not started, since until has passed
	stopping bool  // the command has been asked to end
	reaped   bool  // the command has ended; its descendants may be there
	status   int   // with that
	grace    <-chan time.Time
	again    <-chan time.Time // not nil: everything is being killed
	soon     bool             // again comes soon
}

// ending is a child that has ended.
type ending struct {
	pid    int
	status syscall.WaitStatus
}

func guardMain() int {
	// Linux kills the command when the thread that has started it ends.
	runtime.LockOSThread()
	keepFromDefault(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
	syscall.CloseOnExec(ordersFile)
	syscall.CloseOnExec(allEndedFile)
	if err := inheritOrphans(); err != nil {
		return cannotGuard(err)
	}
	alarm, err := newAlarm()
	if err != nil {
		return cannotGuard(err)
	}
	g := &guard{orders: readOrders(os.NewFile(ordersFile, "orders")), alarm: alarm, killer: killer{log: guardLog()}}
	status, err := g.run()
	if err != nil {
		return cannotGuard(err)
	}
	_, _ = syscall.Write(allEndedFile, []byte{1}) // an error says that nobody is there to be told
	if g.ordered {
		signal.Reset(deadlineSignal)
		_ = syscall.Kill(os.Getpid(), deadlineSignal)
		select {}
	}
	return status
}

func cannotGuard(err error) int {
	fmt.Fprintf(os.Stderr, "%s: cannot guard COMMAND: %v\n", program, err)
	return exitCannotRun
}

// readOrders reads orders in a goroutine, until nobody is left who could give any.
func readOrders(from *os.File) <-chan order {
	orders := make(chan order)
	go func() {
		defer close(orders)
		for decoder := json.NewDecoder(from); ; {
			var o order
			if decoder.Decode(&o) != nil {
				return
			}
			orders <- o
		}
	}()
	return orders
}

// run guards the command, and returns its status as a shell has it.
func (g *guard) run() (status int, err error) {
	for {
		select {
		case o, ok := <-g.orders:
			if !ok {
				g.orders = nil
				g.kill()
			} else if err := g.obey(o); err != nil {
				return 0, err
			}
		case <-g.alarm.rings:
			if g.passed() && g.pid != 0 {
				g.ordered = true
				g.kill()
			}
		case <-g.grace:
			g.kill()
		case <-g.again:
			g.kill()
		case e, ok := <-g.ended:
			if !ok {
				return g.status, nil
			}
			g.note(e)
		}
		if g.pid == 0 && (g.stopping || g.orders == nil) {
			g.ordered = true // it has not been started in time
			return g.status, nil
		}
	}
}

// note notes that a child has ended.
func (g *guard) note(e ending) {
	if e.pid == g.pid {
		g.reaped, g.status = true, shellStatus(e.status)
		g.stop() // what it has left behind
	}
	if g.again != nil && !g.soon {
		g.again, g.soon = time.After(killSoon), true
	}
}

// passed reports whether the deadline has.
func (g *guard) passed() bool { return g.until != 0 && bootClock() >= g.until }

func (g *guard) obey(o order) error {
	if o.Until != 0 {
		g.until = o.Until
		if err := g.alarm.set(o.Until); err != nil {
			return err
		}
	}
	if o.Start != nil {
		g.first = o
	}
	if o.Pass != 0 {
		g.signal(o.Pass)
	}
	if o.Stop {
		g.stop()
	}
	// On a busy machine the first deadline may have passed, and a later one is about to come.
	if g.pid == 0 && !g.stopping && !g.passed() {
		return g.start()
	}
	return nil
}

// start starts the command, in a process group of its own.
func (g *guard) start() error {
	command, err := syscall.ForkExec(g.first.Start[0], g.first.Start[1:], &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: attributes(),
	})
	if err != nil {
		return fmt.Errorf("%s: %w", g.first.Start[0], err)
	}
	g.pid = command
	ended := make(chan ending)
	g.ended = ended
	go func() {
		defer close(ended)
		for {
			var status syscall.WaitStatus
			switch pid, err := syscall.Wait4(-1, &status, 0, nil); err {
			case nil:
				ended <- ending{pid, status}
			case syscall.EINTR:
			default: // there are no children
				awaitGroup(command)
				return
			}
		}
	}()
	return nil
}

// stop asks the command to end, and its group. What has not by the end of the grace period
// will be killed.
func (g *guard) stop() {
	if g.stopping {
		return
	}
	g.stopping = true
	g.signal(g.first.Signal)
	g.grace = time.After(g.first.Grace)
}

// kill kills the group and the children, again and again until there are none.
func (g *guard) kill() {
	g.signal(syscall.SIGKILL)
	for _, child := range children() {
		g.killer.kill(child.pid)
	}
	g.again, g.soon = time.After(killAgain), false
}

// signal sends a signal to the group. Once the command has ended, its number may be
// another's, unless one of its group is there.
func (g *guard) signal(s syscall.Signal) {
	if g.pid != 0 && (!g.reaped || isInUse(g.pid)) {
		_ = syscall.Kill(-g.pid, s) // an error says that all have ended
	}
}

// guardLog writes to the command's standard error, and never waits for a reader.
func guardLog() *zap.Logger {
	return operator.NewLogger(zap.ErrorLevel, operator.NewStream(os.Stderr, func(error) {}, func(int) {}))
}

// killer kills processes. A process that has become another user's cannot be killed: killer logs
// the first of them. An instance with such a command is not alone after its deadline.
type killer struct {
	log  *zap.Logger
	told sync.Once
}

func (k *killer) kill(pid int) {
	if syscall.Kill(pid, syscall.SIGKILL) == syscall.EPERM { // another error says that it has ended
		k.told.Do(func() {
			k.log.Error("cannot kill a process of another user; it goes on past the deadline unless somebody ends it", zap.Int("pid", pid))
		})
	}
}

// shellStatus is how a shell tells how a process has ended.
func shellStatus(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}
