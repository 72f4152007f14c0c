package e2e_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// optionLine matches the line of an option in a help text.
var optionLine = regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+) +(.*)$`)

// options returns the flags of a program with their texts from its help.
func options(t *testing.T, command ...string) map[string]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(programs(t), command[0]), append(command[1:], "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
	all := map[string]string{}
	for _, m := range optionLine.FindAllStringSubmatch(string(out), -1) {
		all[m[1]] = strings.Join(strings.Fields(m[2]), " ")
	}
	return all
}

// TestProgramsHaveOneListOfOptions checks that an option of several programs has one name, one form, one text and one
// default.
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
			want = append(slices.Clip(want), running...) // the other programs wait only on request
		} else if _, ok := has["wait"]; !ok {
			t.Errorf("%s lacks --wait", name)
		}
		for _, flag := range want {
			if is, ok := has[flag]; !ok {
				t.Errorf("%s lacks --%s", name, flag)
			} else if server := all["pgqueue-server"][flag]; is != server && flag != "background" { // a worker's belongs to --database-url
				t.Errorf("--%s of %s: %q; of pgqueue-server: %q", flag, name, is, server)
			}
		}
	}
	client := options(t, "pgqueue", "queues")
	for _, flag := range []string{"url", "protocol", "auth-token-file", "namespace"} {
		if is, text := all["pgqueue-worker"][flag], client[flag]; is != text || text == "" {
			t.Errorf("--%s of pgqueue-worker: %q; of pgqueue queues: %q", flag, is, text)
		}
	}
	if is, text := all["pgqueue-worker"]["allowed-host"], all["pgqueue-server"]["allowed-host"]; is != text {
		t.Errorf("--allowed-host of pgqueue-worker: %q; of pgqueue-server: %q", is, text)
	}
	for flag, text := range all["pgqueue-server"] {
		if is, ok := all["pgqueue run"][flag]; !ok && flag != "version" && flag != "check" {
			t.Errorf("pgqueue run lacks --%s", flag)
		} else if ok && is != text && flag != "namespace" && flag != "help" { // every command of pgqueue shares these
			t.Errorf("--%s of pgqueue run: %q; of pgqueue-server: %q", flag, is, text)
		}
	}
}

// severalMeanings are the options with more than one text, each with the reason.
var severalMeanings = map[string]string{
	"background":  "in a worker it belongs to --database-url",
	"check":       "the programs listen at options of different names",
	"concurrency": "of a worker, or of a queue over all workers; no variable sets that of a queue",
	"config":      "settings of a worker, or contexts of the commands; no variable names that of the commands",
	"data-dir":    "doctor and migrate use the running PostgreSQL there; the server starts it",
	"header":      "of a request, or of a task; no variable sets that of a task",
	"help":        "the text names the program",
	"lease":       "of a retain, a heartbeat or a queue; only that of a worker has a variable",
	"max-payload": "in a worker it belongs to --database-url",
	"namespace":   "a client works in it; a server uses it for requests without one, with the same default",
	"queue":       "each command says its use; only that of a worker has a variable",
	"version":     "the text names the program",
	"wait":        "for a database; in retain-task and await-task, which have no variable for it, for a task",
}

// TestOptionsOfOneNameHaveOneMeaning compares the options of the worker and the server with those of all commands.
func TestOptionsOfOneNameHaveOneMeaning(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the programs")
	}
	t.Parallel()

	commands, err := os.ReadFile("../cli/internal/root/testdata/golden/help.txt") // a test of the commands keeps it true
	if err != nil {
		t.Fatal(err)
	}

	texts := map[string][]string{}
	add := func(name, text string) {
		if !slices.Contains(texts[name], text) {
			texts[name] = append(texts[name], text)
		}
	}
	for _, program := range []string{"pgqueue-worker", "pgqueue-server"} {
		for name, text := range options(t, program) {
			add(name, text)
		}
	}
	for _, m := range optionLine.FindAllStringSubmatch(string(commands), -1) {
		if name := m[1]; len(texts[name]) > 0 {
			add(name, strings.Join(strings.Fields(m[2]), " "))
		}
	}

	for name, all := range texts {
		reason, listed := severalMeanings[name]
		if several := len(all) > 1; several != listed {
			t.Errorf("--%s has the texts %q; listed with a reason: %q", name, all, reason)
		}
	}
	if len(texts) < 30 {
		t.Errorf("only %d options were compared", len(texts))
	}
}

// TestProgramsParseServerSettingsAlike checks that worker and commands accept the same values of --url, --protocol,
// --auth-token and --namespace, as flags and as variables. A bad value is a usage error of both; a good one is an
// error of neither.
func TestProgramsParseServerSettingsAlike(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the programs")
	}
	dir := programs(t)
	for _, test := range []struct {
		flag, value string
		usage       bool
	}{
		{"url", "localhost:8080", true},
		{"url", "ftp://localhost/api", true},
		{"url", "http://", true},
		{"url", "http://127.0.0.1:1/api?x=1", true},
		{"url", "http://127.0.0.1:1/other", false},
		{"url", "https://u:p@127.0.0.1:1/api/", false},
		{"protocol", "grpc", true},
		{"protocol", "REST", true},
		{"protocol", "connect", false},
		{"auth-token", "two words", true},
		{"auth-token", "t\x00", true},
		{"auth-token", "ünï", true},
		{"auth-token", " token\n", false},
		{"namespace", "9", true},
		{"namespace", "a/b", true},
		{"namespace", "shop", false},
		{"namespace", " Shop ", false},
	} {
		for _, way := range []string{"flag", "variable"} {
			if way == "flag" && test.flag == "auth-token" {
				continue // a secret has no flag
			}
			if strings.Contains(test.value, "\x00") {
				continue // neither an argument nor a variable can hold it
			}
			exits := map[string]int{}
			for _, line := range [][]string{{"pgqueue", "queues"}, {"pgqueue-worker", "--queue", "mail", "--exec", "true"}} {
				cmd := exec.CommandContext(t.Context(), filepath.Join(dir, line[0]), line[1:]...)
				cmd.Env = append(os.Environ(), "PGQUEUE_URL=http://127.0.0.1:1/api")
				if way == "flag" {
					cmd.Args = append(cmd.Args, "--"+test.flag, test.value)
				} else {
					cmd.Env = append(cmd.Env, "PGQUEUE_"+strings.ToUpper(strings.ReplaceAll(test.flag, "-", "_"))+"="+test.value)
				}
				exits[line[0]] = exitOfStart(t, cmd)
			}
			if cli, worker := exits["pgqueue"] == 2, exits["pgqueue-worker"] == 2; cli != test.usage || worker != test.usage {
				t.Errorf("--%s %q as a %s: a usage error is expected: %t; exit codes %v", test.flag, test.value, way, test.usage, exits)
			}
		}
	}
}

// exitOfStart runs a program until it ends or reports that it works. It returns the exit code, or -1 when it works.
func exitOfStart(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if strings.Contains(lines.Text(), `"working"`) {
			_ = cmd.Process.Kill() // it still runs, so it works
			break
		}
	}
	_, _ = io.Copy(io.Discard, stderr) // to the end, because Wait closes the pipe
	_ = cmd.Wait()                     // the state below has the result
	return cmd.ProcessState.ExitCode()
}
