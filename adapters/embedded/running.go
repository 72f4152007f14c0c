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

// ErrNotRunning: PostgreSQL of this package does not run in the data folder.
var ErrNotRunning = errors.New("no PostgreSQL runs there")

// Running returns the DSN of the server in the data folder dir ("" = DefaultDataDir), for tools that inspect it. This
// or another program runs that server. Running changes nothing and opens no connection. It wraps ErrNotRunning when
// no server runs. It wraps ErrDataDir when this user may not read the folder.
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

	// Line 1 holds the process, line 4 the port, line 8 the state. After a kill the file names a process that has
	// ended.
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
	return buildURL(strings.TrimSpace(string(password)), port), nil
}

// buildURL returns the URL of a server of this package.
func buildURL(password string, port int) string {
	return (&url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(role, password),
		Host:     net.JoinHostPort(host, strconv.Itoa(port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}).String()
}
