//go:build !unix

package testsql

import (
	"os/exec"
	"syscall"
)

// attributes does nothing here: no user is like root.
func attributes(*exec.Cmd, syscall.Signal) error { return nil }

func own(string) error { return nil }
