//go:build !linux

package main

import "syscall"

// demoProcessAttributes keep the terminal's Ctrl-C from the child.
func demoProcessAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
