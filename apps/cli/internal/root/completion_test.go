//go:build unix

package root

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// TestCompletion completes in the shells that are installed; bash has to be, and in CI all of them.
func TestCompletion(t *testing.T) {
	s := newShell(t, startServer(t))
	s.must("create-queue", "mail")
	s.must("create-queue", "sms")
	s.must("create-ticker", "nightly", "--period", "24h")
	bin := filepath.Dir(builtProgram(t))
	cases := map[string][]string{
		"pgqueue create-t":            {"create-task", "create-ticker", "create-token"},
		"pgqueue queue view ":         {"mail", "sms"},
		"pgqueue queue m":             {"mail"},
		"pgqueue queue pa":            {"pause"},
		"pgqueue retain-task sms ":    {"mail"},
		"pgqueue ticker ni":           {"nightly"},
		"pgqueue tasks --queue m":     {"mail"},
		"pgqueue tasks --status exp":  {"expired"},
		"pgqueue queues -o y":         {"yaml"},
		"pgqueue create-queue x --ba": {"--backoff"},
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if !t.Run(shell, func(t *testing.T) { queuetest.FindTools(t, shell) }) {
			continue
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		script := filepath.Join(t.TempDir(), "completion")
		if err := os.WriteFile(script, []byte(s.must("completion", shell)), 0o600); err != nil {
			t.Fatal(err)
		}
		for line, want := range cases {
			t.Run(shell+": "+line, func(t *testing.T) {
				cmd := exec.CommandContext(t.Context(), path, driver(shell, script, line)...)
				cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "PGQUEUE_URL="+s.env["PGQUEUE_URL"], "HOME="+s.env["HOME"])
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				var got []string
				for row := range strings.Lines(string(out)) {
					word, _, _ := strings.Cut(strings.TrimSpace(row), "\t")
					// The line editor of zsh drops words that do not continue the line; it has no part in this test.
					if word = strings.TrimSpace(word); word != "" && (shell != "zsh" || strings.HasPrefix(word, line[strings.LastIndex(line, " ")+1:])) {
						got = append(got, strings.Fields(word)[0])
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		}
	}
	t.Run("a server that does not answer offers nothing, quickly", func(t *testing.T) {
		s.env["PGQUEUE_URL"] = "http://127.0.0.1:1/api"
		if out := s.must("__complete", "pause-queue", ""); !strings.HasPrefix(out, ":") {
			t.Errorf("%q", out)
		}
	})
}

// driver is how a shell is asked, in its own way, what may stand behind line.
func driver(shell, script, line string) []string {
	switch shell {
	case "fish":
		return []string{"--no-config", "-c", `source $argv[1]; complete -C $argv[2]`, script, line}
	case "zsh":
		// The script's own way of asking, without the line editor that would show it.
		return []string{"-f", "-c", `compdef() { :; }; _describe() { print -l -- "${(@)${(P)${@[-1]}}%%:*}"; }; ` +
			`_arguments() { :; }; source "$1"; words=(${(s: :)2}); [[ $2 == *" " ]] && words+=(""); CURRENT=${#words}; _pgqueue`, "zsh", script, line}
	}
	return []string{"-c", `
_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${COMP_WORDS[COMP_CWORD]}; prev=${COMP_WORDS[COMP_CWORD-1]}; }
__ltrim_colon_completions() { :; }
compopt() { :; }
source "$1"
read -ra COMP_WORDS <<<"$2"; [[ $2 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]}-1)); COMP_LINE=$2; COMP_POINT=${#2}; COMP_TYPE=9
__start_pgqueue
printf '%s\n' "${COMPREPLY[@]}"`, "bash", script, line}
}
