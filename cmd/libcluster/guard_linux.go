package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownProgram is this program's file, also after it was replaced by another version.
func ownProgram() (string, error) { return "/proc/self/exe", nil }

// inheritOrphans makes this process the parent of its descendants whose parents have ended.
func inheritOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot become the parent of orphans: %w", err)
	}
	return nil
}

// attributes are those of a command: it ends when its guard is killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitGroup has nothing to wait for: who is in the group is a descendant, and there are none.
func awaitGroup(int) {}

// child is a child of this process.
type child struct{ pid, group int }

// children are those of this process.
func children() (all []child) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	self := os.Getpid()
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		// After the name, which may hold anything, come state, parent and group.
		var state string
		var parent, group int
		rest := stat[bytes.LastIndexByte(stat, ')')+1:]
		if _, err := fmt.Sscan(string(rest), &state, &parent, &group); err == nil && parent == self {
			all = append(all, child{pid, group})
		}
	}
	return all
}

// isInUse reports whether a child is in a group.
func isInUse(group int) bool {
	return slices.ContainsFunc(children(), func(c child) bool { return c.group == group })
}

// bootClock reads a clock that all processes share and that goes on while the machine sleeps.
func bootClock() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // Linux has had it since 2.6.39
	}
	return ts.Nano()
}

// alarm rings when a time of bootClock has come, also after a sleep of the machine.
type alarm struct {
	rings <-chan struct{}
	timer int
}

func newAlarm() (*alarm, error) {
	timer, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make a timer: %w", err)
	}
	rings := make(chan struct{})
	go func() {
		for expirations := make([]byte, 8); ; {
			if _, err := unix.Read(timer, expirations); err == nil {
				rings <- struct{}{}
			}
		}
	}()
	return &alarm{rings, timer}, nil
}

// set sets the alarm, in place of what it was set to.
func (a *alarm) set(at int64) error {
	return unix.TimerfdSettime(a.timer, unix.TFD_TIMER_ABSTIME, &unix.ItimerSpec{Value: unix.NsecToTimespec(at)}, nil)
}
