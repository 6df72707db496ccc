package main

import "syscall"

// demoProcessAttributes keep the terminal's Ctrl-C from the child, and end it with this process even when that is killed.
func demoProcessAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
