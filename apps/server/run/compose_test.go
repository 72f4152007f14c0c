package run

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/pgqueue/pgqueue/apps/internal/program"
)

// TestComposeFilesNameVariablesOfTheServer: a misspelt variable of a compose file would silently leave a server as it was.
func TestComposeFilesNameVariablesOfTheServer(t *testing.T) {
	flags := pflag.NewFlagSet("server", pflag.ContinueOnError)
	var logging program.LogConfig
	Flags(flags, &Config{})
	program.LogFlags(flags, &logging)
	known := program.Variables(flags)

	files, err := filepath.Glob("../../../deploy/compose*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	found := map[string]bool{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var compose struct {
			Services map[string]struct{ Environment map[string]any }
		}
		if err := yaml.Unmarshal(content, &compose); err != nil {
			t.Fatal(file, err)
		}
		for name := range compose.Services["server"].Environment {
			if strings.HasPrefix(name, program.Prefix) {
				found[name] = true
				if !slices.Contains(known, name) {
					t.Errorf("%s: the server does not read %s", filepath.Base(file), name)
				}
			}
		}
	}
	for _, flag := range []string{"tls-cert-file", "tls-client-ca-file", "access-file", "trusted-proxy", "oidc-issuer"} {
		if !found[program.Variable(flag)] {
			t.Errorf("no compose file has %s", program.Variable(flag))
		}
	}
}
