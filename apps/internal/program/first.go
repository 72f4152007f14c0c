package program

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// runningArgs returns the arguments of the process that runs this program beside a check, because the check must use
// the address of that process. Process 1 of a container has precedence. Behind an init such as tini, or in a shared
// process namespace, all other processes of the program must agree. Otherwise the result is nil, and the check uses
// its own settings. Processes of other containers and users do not count: their executable is another file or not
// readable.
func runningArgs() []string {
	own, err := os.Stat("/proc/self/exe")
	if err != nil {
		return nil
	}

	// The pattern is well formed.
	folders, _ := filepath.Glob("/proc/[0-9]*")
	var found [][]string
	for _, folder := range folders {
		exe, err := os.Stat(filepath.Join(folder, "exe"))
		pid := filepath.Base(folder)
		if err != nil || !os.SameFile(own, exe) || pid == strconv.Itoa(os.Getpid()) {
			continue
		}

		line, err := os.ReadFile(filepath.Join(folder, "cmdline"))
		if err != nil || len(line) == 0 {
			// The process has ended.
			continue
		}

		args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")[1:]
		switch {
		// This is another check.
		case slices.Contains(args, "--check"):
		case pid == "1":
			return args
		default:
			found = append(found, args)
		}
	}

	if len(found) == 0 || slices.ContainsFunc(found, func(args []string) bool { return !slices.Equal(args, found[0]) }) {
		return nil
	}

	return found[0]
}
