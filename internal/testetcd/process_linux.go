package testetcd

import (
	"os/exec"
	"syscall"
)

// endWithParent has the system kill the command when the thread that starts it ends.
func endWithParent(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
