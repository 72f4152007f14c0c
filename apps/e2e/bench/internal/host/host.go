// Package host reads facts of the machine and of processes from Linux's /proc.
package host

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc/*/stat: USER_HZ, which is 100 on every Linux that Go supports.
const tick = 10 * time.Millisecond

// Facts describe the machine for a report.
type Facts struct {
	CPU    string
	Cores  int
	Memory int64 // bytes
	Kernel string
	Go     string
}

// Describe reads the facts. A fact that it cannot read stays empty.
func Describe() Facts {
	f := Facts{Cores: runtime.NumCPU(), Go: runtime.Version()}
	f.CPU = field("/proc/cpuinfo", "model name")
	kb, _, _ := strings.Cut(field("/proc/meminfo", "MemTotal"), " ")
	n, _ := strconv.ParseInt(kb, 10, 64)
	f.Memory = n << 10
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		f.Kernel = strings.TrimSpace(string(text))
	}
	return f
}

// Load returns the load average of the last minute.
func Load() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	f, _ := strconv.ParseFloat(first, 64)
	return f
}

func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Memory returns the bytes that a process has in main memory now, and its largest value so far.
func Memory(pid int) (now, peak int64) {
	file := fmt.Sprintf("/proc/%d/status", pid)
	of := func(name string) int64 {
		kb, _, _ := strings.Cut(field(file, name), " ")
		n, _ := strconv.ParseInt(kb, 10, 64)
		return n << 10
	}
	return of("VmRSS"), of("VmHWM")
}

// CPU returns the CPU time of a process.
func CPU(pid int) time.Duration {
	s, err := readStat(pid)
	if err != nil {
		return 0
	}
	return s.own
}

// FamilyCPU returns the CPU time of a process and its children, with the children that have ended.
func FamilyCPU(pid int) time.Duration {
	top, err := readStat(pid)
	if err != nil {
		return 0
	}

	sum := top.own + top.ended
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, entry := range entries {
		child, err := strconv.Atoi(filepath.Base(entry))
		if err != nil {
			continue
		}
		if s, err := readStat(child); err == nil && s.parent == pid {
			sum += s.own
		}
	}
	return sum
}

type stat struct {
	parent     int
	own, ended time.Duration
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The name in brackets may contain any characters.
	_, rest, ok := bytes.Cut(text, []byte(") "))
	if end := bytes.LastIndex(text, []byte(") ")); ok && end >= 0 {
		rest = text[end+2:]
	}
	fields := strings.Fields(string(rest))
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	n := func(i int) int { v, _ := strconv.Atoi(fields[i]); return v }
	return stat{
		parent: n(1), own: time.Duration(n(11)+n(12)) * tick, ended: time.Duration(n(13)+n(14)) * tick,
	}, nil
}

// Postmaster returns the process of the PostgreSQL with its data in dir.
func Postmaster(dir string) (int, error) {
	f, err := os.Open(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Scan()
	return strconv.Atoi(strings.TrimSpace(s.Text()))
}

// Usage holds the resources that an ended process has used.
type Usage struct {
	CPU  time.Duration
	Peak int64 // bytes
}

// UsageOf reads the usage from the state of an ended process.
func UsageOf(p *os.ProcessState) Usage {
	if p == nil {
		return Usage{}
	}
	u := Usage{CPU: p.UserTime() + p.SystemTime()}
	if r, ok := p.SysUsage().(*syscall.Rusage); ok {
		u.Peak = r.Maxrss << 10
	}
	return u
}
