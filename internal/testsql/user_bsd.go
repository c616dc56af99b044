//go:build unix && !linux

package testsql

import (
	"os/exec"
	"syscall"
)

// attributes has a command run as an ordinary user. A test binary that is killed leaves it
// behind.
func attributes(c *exec.Cmd, _ syscall.Signal) error {
	credential, err := ordinary()
	c.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	return err
}
