package testsql

import (
	"os/exec"
	"syscall"
)

// attributes has a command run as an ordinary user, and get a signal when the thread that
// starts it ends.
func attributes(c *exec.Cmd, quit syscall.Signal) error {
	credential, err := ordinary()
	c.SysProcAttr = &syscall.SysProcAttr{Credential: credential, Pdeathsig: quit}
	return err
}
