package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/outboxd/outboxd/internal/human"
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

// Memory is what a process of this machine holds, in bytes; 0 where that is not known.
type Memory struct {
	PeakMemory int64 `json:"peak_memory_bytes,omitempty"` // the most that it has had at once (VmHWM)
	// FileMemory is what it holds now of files that it has mapped (RssFile): its program first of all, which the kernel reads ahead, shares with
	// others, and can drop at any time.
	FileMemory int64 `json:"file_memory_bytes,omitempty"`
}

// MemoryOf reads what a process has of memory. See proc_pid_status(5).
func MemoryOf(pid int) (m Memory) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(text)) {
		switch name, value, _ := strings.Cut(line, ":"); name {
		case "VmHWM":
			m.PeakMemory = bytesOf(value)
		case "RssFile":
			m.FileMemory = bytesOf(value)
		}
	}
	return m
}

// bytesOf reads "  123 kB" as bytes; 0 where it says something else.
func bytesOf(value string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

// MemoryText is the peak, and what files have of memory: "72.5 MiB, files 45.8 MiB"; a dash where it is not known.
func (m Memory) MemoryText() string {
	text := human.Bytes(m.PeakMemory)
	switch {
	case m.PeakMemory == 0:
		return "-"
	case m.FileMemory > 0:
		text += ", files " + human.Bytes(m.FileMemory)
	}
	return text
}

// isPostgres tells whether the process is a backend of PostgreSQL on this machine.
func isPostgres(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.HasPrefix(text, []byte("postgres"))
}
