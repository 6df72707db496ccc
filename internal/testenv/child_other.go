//go:build !linux

package testenv

import "syscall"

// ChildAttributes are those of a process that a test or the demo starts: they keep the terminal's Ctrl-C from it.
func ChildAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
