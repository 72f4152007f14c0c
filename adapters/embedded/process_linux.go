package embedded

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// endAtParentsDeath makes the kernel send SIGINT, PostgreSQL's fast shutdown, when this process is killed. The kernel
// means the thread that forked, so the starting goroutine stays on a locked thread until the process ends. Start does
// not depend on it: the next Start stops a survivor on every system.
func endAtParentsDeath(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }

// servesCluster reports whether process pid is a PostgreSQL on the data directory cluster. Where /proc hides the
// answer it returns true, because a refused start does less harm than a second server.
func servesCluster(pid int, cluster string) bool {
	args := processArgs(pid)
	if len(args) == 0 || !postgresName(args[0]) {
		return false
	}

	dir := "/proc/" + strconv.Itoa(pid)
	if cwd, err := os.Stat(dir + "/cwd"); err == nil {
		want, err := os.Stat(cluster)
		return err != nil || os.SameFile(cwd, want)
	}

	// Without CAP_SYS_PTRACE even root cannot read the working directory of another user's process. The arguments
	// stay readable.
	for i, arg := range args {
		if arg == "-D" && i+1 < len(args) {
			return filepath.Clean(args[i+1]) == cluster
		}
		if rest, ok := strings.CutPrefix(arg, "-D"); ok && rest != "" {
			return filepath.Clean(rest) == cluster
		}
	}
	return true
}

// strayBackends returns the processes with the mark of the folder in their titles. Every user may read titles, unlike
// working directories.
func strayBackends(mark string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}

	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}

		if args := processArgs(pid); len(args) > 0 && hasMark(args[0], mark) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// processArgs returns the arguments of process pid, or nil when they are unreadable.
func processArgs(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	b = bytes.TrimRight(b, "\x00")
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(string(b), "\x00")
}

// postgresName reports whether arg0 names the server program.
func postgresName(arg0 string) bool {
	switch filepath.Base(arg0) {
	case "postgres", "postmaster":
		return true
	}
	return false
}
