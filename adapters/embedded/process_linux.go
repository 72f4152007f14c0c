package embedded

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// endAtParentsDeath has the kernel send SIGINT, PostgreSQL's fast shutdown, when
// this process is killed. The kernel means the thread that forked, so whoever
// starts a process with it stays on a locked thread until that process ended.
// It is a courtesy: the next Start stops a survivor anyway, as it must where
// the kernel has nothing like it.
func endAtParentsDeath(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }

// servesCluster reports whether process pid is a PostgreSQL on the given data
// directory. Where /proc hides the facts it says yes: refusing to start is the
// lesser evil.
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
	// Another user's process: its working directory is hidden from a root
	// without CAP_SYS_PTRACE, its arguments are not.
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

// strayBackends are the processes whose title bears the mark of the folder.
// Titles are open to all, unlike working directories.
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
		if args := processArgs(pid); len(args) > 0 && marked(args[0], mark) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func processArgs(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	b = bytes.TrimRight(b, "\x00")
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(string(b), "\x00")
}

func postgresName(arg0 string) bool {
	switch filepath.Base(arg0) {
	case "postgres", "postmaster":
		return true
	}
	return false
}
