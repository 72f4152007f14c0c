package run

import (
	"fmt"
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

// TestComposeFilesCloseTheirServers: each server of a compose file has a file of tokens, and none is open.
func TestComposeFilesCloseTheirServers(t *testing.T) {
	files, err := filepath.Glob("../../../deploy/compose*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	servers := 0
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var compose struct {
			Services map[string]struct {
				Image       string
				Entrypoint  []string
				Command     any
				Environment map[string]any
			}
		}
		if err := yaml.Unmarshal(content, &compose); err != nil {
			t.Fatal(file, err)
		}
		for name, service := range compose.Services {
			text := fmt.Sprint(service.Command, service.Environment)
			for _, open := range []string{"insecure-open", "INSECURE_OPEN", "--auth=off", "--auth off", "PGQUEUE_AUTH:off"} {
				if strings.Contains(text, open) {
					t.Errorf("%s: %s has %s", filepath.Base(file), name, open)
				}
			}
			if strings.Contains(fmt.Sprint(service.Command), "postgres://") {
				t.Errorf("%s: the command of %s has a connection string, which the list of processes shows", filepath.Base(file), name)
			}
			if service.Image == "" && service.Command == nil && service.Entrypoint == nil {
				continue // further settings of the server of compose.yaml
			}
			if service.Image != "pgqueue-server" && !slices.Contains(service.Entrypoint, "/usr/local/bin/pgqueue-server") && !strings.HasPrefix(name, "server") {
				continue
			}
			servers++
			if !strings.Contains(text, "--admin-token-file=") && service.Environment["PGQUEUE_ADMIN_TOKEN_FILE"] == nil {
				t.Errorf("%s: the server %s has no file of tokens", filepath.Base(file), name)
			}
		}
	}
	if servers < 2 {
		t.Errorf("found %d servers", servers)
	}
}
