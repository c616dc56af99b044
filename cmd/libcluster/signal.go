//go:build unix

package main

import (
	"errors"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// signalFlag is the value of a flag for a signal: TERM or SIGTERM.
type signalFlag syscall.Signal

func (s *signalFlag) String() string {
	return strings.TrimPrefix(unix.SignalName(syscall.Signal(*s)), "SIG")
}

func (s *signalFlag) Type() string { return "signal" }

func (s *signalFlag) Set(name string) error {
	number := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG"))
	if number == 0 {
		return errors.New("there is no such signal")
	}
	*s = signalFlag(number)
	return nil
}
