package torture

import "syscall"

// childAttributes keep the terminal's Ctrl-C from the child, and end it with this process even when that is killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
