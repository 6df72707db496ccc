package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of /proc/PID/stat: Linux shows 100 of them a second to every program, whatever its own clock is.
const clockTick = 10 * time.Millisecond

// CPU is the processor time that a process of this machine has used; false where that is not known. See proc_pid_stat(5).
func CPU(pid int) (time.Duration, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:]) // the name may hold spaces
	const user, system = 11, 12                                     // behind the name
	if len(fields) <= system {
		return 0, false
	}
	u, badUser := strconv.ParseInt(string(fields[user]), 10, 64)
	s, badSystem := strconv.ParseInt(string(fields[system]), 10, 64)
	return time.Duration(u+s) * clockTick, badUser == nil && badSystem == nil
}

// PeakMemory is the most bytes of memory that a process of this machine has had at once (VmHWM); 0 where that is not known.
func PeakMemory(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err == nil {
				return kilobytes << 10
			}
		}
	}
	return 0
}

// isPostgres tells whether the process is a backend of PostgreSQL on this machine.
func isPostgres(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.HasPrefix(text, []byte("postgres"))
}
