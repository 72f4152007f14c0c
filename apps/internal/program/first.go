package program

import (
	"os"
	"strings"
)

// FirstArgs are the arguments of the first process, when that runs this very program, as in a container: a check that
// runs beside it must look where it listens. Else they are none.
func FirstArgs() []string {
	own, err := os.Readlink("/proc/self/exe")
	if err != nil || os.Getpid() == 1 {
		return nil
	}
	if first, err := os.Readlink("/proc/1/exe"); err != nil || first != own {
		return nil
	}
	line, err := os.ReadFile("/proc/1/cmdline")
	if err != nil {
		return nil
	}
	args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	return args[1:]
}
