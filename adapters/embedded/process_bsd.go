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

// endAtParentsDeath does nothing, because Go reaches no such function of these kernels. The next Start stops a
// survivor.
func endAtParentsDeath(*syscall.SysProcAttr) {}

// servesCluster reports whether process pid is a PostgreSQL on the data directory cluster.
func servesCluster(pid int, cluster string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return false
	}

	line := strings.TrimSpace(string(out))
	// The path may contain blanks, so the program ends where its options begin.
	program, options, found := strings.Cut(line, " -")
	switch filepath.Base(program) {
	case "postgres", "postmaster":
		return !found || strings.Contains(" -"+options, "-D "+cluster)
	}
	return false
}

// strayBackends returns the processes with the mark of the folder in their titles.
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
		if pid, err := strconv.Atoi(number); err == nil && hasMark(strings.TrimSpace(title), mark) {
			pids = append(pids, pid)
		}
	}
	return pids
}
