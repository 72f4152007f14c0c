//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package embedded

import (
	"context"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// endAtParentsDeath does nothing: the kernel offers nothing like it, or not
// through Go. A survivor is stopped by the next Start.
func endAtParentsDeath(*syscall.SysProcAttr) {}

// servesCluster reports whether process pid is a PostgreSQL on the given data
// directory.
func servesCluster(pid int, cluster string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return false
	}
	line := strings.TrimSpace(string(out))
	// The folder may hold blanks, so the program ends where its options start.
	program, options, found := strings.Cut(line, " -")
	switch filepath.Base(program) {
	case "postgres", "postmaster":
		return !found || strings.Contains(" -"+options, "-D "+cluster)
	}
	return false
}

// strayBackends are the processes whose title bears the mark of the folder.
func strayBackends(mark string) []int {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ps", "-axww", "-o", "pid=,args=").Output()
	if err != nil {
		return nil
	}
	var pids []int
	for line := range strings.Lines(string(out)) {
		number, title, _ := strings.Cut(strings.TrimSpace(line), " ")
		if pid, err := strconv.Atoi(number); err == nil && marked(strings.TrimSpace(title), mark) {
			pids = append(pids, pid)
		}
	}
	return pids
}
