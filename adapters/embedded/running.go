package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrNotRunning: no PostgreSQL of this package's runs in the data folder.
var ErrNotRunning = errors.New("no PostgreSQL runs there")

// Running gives the DSN of the server that a program, this one or another,
// runs in the data folder dir ("" = DefaultDataDir), for tools that look at it.
// It changes nothing and connects to nothing. It wraps ErrNotRunning when there
// is none, and ErrDataDir when this user may not look into the folder.
func Running(dir string) (string, error) {
	if dir == "" {
		var err error
		if dir, err = DefaultDataDir(); err != nil {
			return "", err
		}
	}
	if target, err := filepath.EvalSymlinks(dir); err == nil {
		dir = target
	}
	b, err := os.ReadFile(filepath.Join(dir, clusterName, "postmaster.pid"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("embedded: %s: %w", dir, ErrNotRunning)
	case err != nil:
		return "", fmt.Errorf("embedded: %w: %w", ErrDataDir, err)
	}
	// Line 1 is the process, 4 the port, 8 the state. A file that a kill left behind names a process that is gone.
	lines := strings.Split(string(b), "\n")
	if len(lines) < 8 || strings.TrimSpace(lines[7]) != "ready" {
		return "", fmt.Errorf("embedded: %s: %w, or not yet", dir, ErrNotRunning)
	}
	pid, pidErr := strconv.Atoi(strings.TrimSpace(lines[0]))
	port, portErr := strconv.Atoi(strings.TrimSpace(lines[3]))
	if pidErr != nil || portErr != nil || !servesCluster(pid, filepath.Join(dir, clusterName)) {
		return "", fmt.Errorf("embedded: %s: %w", dir, ErrNotRunning)
	}
	password, err := os.ReadFile(filepath.Join(dir, passwordName))
	if err != nil {
		return "", fmt.Errorf("embedded: %w: %w", ErrDataDir, err)
	}
	return dsn(strings.TrimSpace(string(password)), port), nil
}

// dsn is the URL of a server of this package's.
func dsn(password string, port int) string {
	return (&url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(role, password),
		Host:     net.JoinHostPort(host, strconv.Itoa(port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}).String()
}
