//go:build unix && !linux

package main

import (
	"os"
	"syscall"
	"time"
)

// ownProgram is this program's file.
func ownProgram() (string, error) { return os.Executable() }

// inheritOrphans does nothing: here the orphans are init's. What leaves the command's group,
// and what a guard leaves behind that is killed, is not ended.
func inheritOrphans() error { return nil }

// attributes are those of a command.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// awaitGroup waits until nobody is left in the group, whose other members are init's children.
func awaitGroup(pid int) {
	for syscall.Kill(-pid, 0) != syscall.ESRCH {
		time.Sleep(killAgain)
	}
}

// child is a child of this process.
type child struct{ pid int }

// children are not known here. The group is.
func children() []child { return nil }

// isInUse reports that somebody may be in a group.
func isInUse(int) bool { return true }

// bootClock reads a clock that all processes share: here the wall clock, which may be set.
func bootClock() int64 { return time.Now().UnixNano() }

// alarm rings when a time of bootClock has come.
type alarm struct {
	rings chan struct{}
	timer *time.Timer
}

func newAlarm() (*alarm, error) {
	a := &alarm{rings: make(chan struct{})}
	a.timer = time.AfterFunc(time.Hour, func() { a.rings <- struct{}{} })
	return a, nil
}

// set sets the alarm, in place of what it was set to.
func (a *alarm) set(at int64) error {
	a.timer.Reset(time.Duration(at - bootClock()))
	return nil
}
