package queuetest

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// toolsLeftOut are the programs that .ci/run does not install on a bare machine.
var toolsLeftOut = []string{"aws", "moto_server", "node", "npm"}

// FindTools returns the paths of programs that a test runs, in their order, also those that Debian keeps in /usr/sbin. Without one of
// them a machine of CI fails the test, unless .ci/run leaves that program out. Any other machine skips the test, and "make test" prints
// the missing programs at its end: it reads them from the file that PGQUEUE_TEST_MISSING names.
func FindTools(t testing.TB, names ...string) []string {
	t.Helper()
	paths := make([]string, len(names))
	for i, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			path, err = exec.LookPath("/usr/sbin/" + name)
		}
		if err == nil {
			paths[i] = path
			continue
		}

		if os.Getenv("CI") != "" && !slices.Contains(toolsLeftOut, name) {
			t.Fatalf("%s must be installed on a machine of CI, got none: .ci/run installs it", name)
		}
		reportMissing(t, name)
		t.Skip("needs " + name)
	}
	return paths
}

// reportMissing appends a line to the file of missing programs.
func reportMissing(t testing.TB, name string) {
	t.Helper()
	file := os.Getenv("PGQUEUE_TEST_MISSING")
	if file == "" {
		return
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	test, _, _ := strings.Cut(t.Name(), "/")
	if _, err := fmt.Fprintf(f, "%s: %s\n", name, test); err != nil { // one write, so that lines of other processes stay whole
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
