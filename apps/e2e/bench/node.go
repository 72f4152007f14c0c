package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// Peers that need Node, and their scripts.
const (
	graphile = "Graphile Worker"
	pgBoss   = "pg-boss"
)

var scripts = map[string]string{graphile: "graphile.mjs", pgBoss: "pgboss.mjs"}

// nodePeers are the installed peers that need Node.
type nodePeers struct {
	dir, binary, version string
}

// findNode finds the peers in dir, where make installs them, and a suitable Node.
func findNode(ctx context.Context, dir string) (*nodePeers, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "pg-boss")); err != nil {
		return nil, errors.New("they are not installed; they need npm")
	}
	binary, err := exec.LookPath("node")
	if err != nil {
		return nil, err
	}
	// The newest peers need a newer Node than many machines have, so make installs one as a package.
	if found, _ := filepath.Glob(filepath.Join(dir, "node_modules", "node-*-*", "bin", "node")); len(found) > 0 {
		binary = found[0]
	}
	version, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	return &nodePeers{dir: dir, binary: binary, version: strings.TrimSpace(string(version))}, nil
}

// versions returns the versions of all contenders.
func versions(node *nodePeers) [][2]string {
	v := [][2]string{{"pgqueue", "this tree"}}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v[0][1] = s.Value
			}
		}

		for _, m := range info.Deps {
			switch m.Path {
			case "github.com/riverqueue/river", "github.com/vgarvardt/gue/v5", "github.com/jackc/pgx/v5":
				v = append(v, [2]string{m.Path, m.Version})
			}
		}
	}

	if node == nil {
		return v
	}
	for _, name := range []string{"graphile-worker", "pg-boss", "pg"} {
		text, err := os.ReadFile(filepath.Join(node.dir, "node_modules", name, "package.json"))
		var file struct{ Version string }
		if err == nil && json.Unmarshal(text, &file) == nil {
			v = append(v, [2]string{name, file.Version})
		}
	}
	return append(v, [2]string{"node", node.version})
}
