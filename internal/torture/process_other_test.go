//go:build !linux

package torture

import "syscall"

// childAttributes keep the terminal's Ctrl-C from the child.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
