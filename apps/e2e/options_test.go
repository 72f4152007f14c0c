package e2e_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// options of a program, from its help: what it says of each flag.
func options(t *testing.T, command ...string) map[string]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(programs(t), command[0]), append(command[1:], "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
	all := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+) +(.*)$`).FindAllStringSubmatch(string(out), -1) {
		all[m[1]] = strings.Join(strings.Fields(m[2]), " ")
	}
	return all
}

// TestProgramsHaveOneListOfOptions holds the options that mean the same in several programs to one name, one form, one
// text and one default.
func TestProgramsHaveOneListOfOptions(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the programs")
	}
	database := []string{"database-url", "schema", "listen-url", "pooler", "max-conns"}
	running := []string{"wait", "log-level", "log-format", "background"}
	all := map[string]map[string]string{
		"pgqueue-server": options(t, "pgqueue-server"), "pgqueue run": options(t, "pgqueue", "run"), "pgqueue-worker": options(t, "pgqueue-worker"),
		"pgqueue doctor": options(t, "pgqueue", "doctor"), "pgqueue migrate up": options(t, "pgqueue", "migrate", "up"),
	}
	for name, has := range all {
		want := database
		if !strings.HasPrefix(name, "pgqueue doctor") && !strings.HasPrefix(name, "pgqueue migrate") {
			want = append(slices.Clip(want), running...) // the others wait only when asked to
		} else if _, ok := has["wait"]; !ok {
			t.Errorf("%s lacks --wait", name)
		}
		for _, flag := range want {
			if is, ok := has[flag]; !ok {
				t.Errorf("%s lacks --%s", name, flag)
			} else if server := all["pgqueue-server"][flag]; is != server && flag != "background" { // a worker's is of --database-url
				t.Errorf("--%s of %s: %q; of pgqueue-server: %q", flag, name, is, server)
			}
		}
	}
	for flag, text := range all["pgqueue-server"] {
		if is, ok := all["pgqueue run"][flag]; !ok && flag != "version" && flag != "check" {
			t.Errorf("pgqueue run lacks --%s", flag)
		} else if ok && is != text && flag != "namespace" && flag != "help" { // its own is that of every command
			t.Errorf("--%s of pgqueue run: %q; of pgqueue-server: %q", flag, is, text)
		}
	}
}
