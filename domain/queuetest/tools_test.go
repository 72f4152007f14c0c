package queuetest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queuetest"
)

// toolTest is a test that notes its end.
type toolTest struct {
	testing.TB
	end string
}

func (t *toolTest) Fatalf(string, ...any) { t.stop("failed") }
func (t *toolTest) Skip(...any)           { t.stop("skipped") }

func (t *toolTest) stop(end string) {
	t.end = end
	panic(t)
}

// TestFindTools: a machine of CI fails without a program that .ci/run installs. Elsewhere the test is skipped, and the program is named.
func TestFindTools(t *testing.T) {
	for _, c := range []struct{ name, ci, tool, end, missing string }{
		{"there", "true", "go", "", ""},
		{"missing in CI", "true", "none-such", "failed", ""},
		{"left out by CI", "true", "moto_server", "skipped", "moto_server: TestFindTools\n"},
		{"missing elsewhere", "", "none-such", "skipped", "none-such: TestFindTools\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "missing")
			path := os.Getenv("PATH")
			t.Setenv("CI", c.ci)
			t.Setenv("PGQUEUE_TEST_MISSING", file)
			if c.tool == "moto_server" {
				path = "/nowhere"
			}
			t.Setenv("PATH", path)

			inner := &toolTest{TB: t}
			func() {
				defer func() {
					if stopped := recover(); stopped != nil && stopped != inner {
						panic(stopped)
					}
				}()
				queuetest.FindTools(inner, c.tool)
			}()
			text, _ := os.ReadFile(file)
			if inner.end != c.end || string(text) != c.missing {
				t.Errorf("the test %q, and %q are missing; want %q, %q", inner.end, text, c.end, c.missing)
			}
		})
	}
}
