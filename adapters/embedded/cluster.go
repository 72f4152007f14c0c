package embedded

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
)

// The database, the role and the address of every server.
const (
	database = "pgqueue"
	role     = "pgqueue"
	host     = "127.0.0.1"
)

// initialise makes the data directory under another name and renames it when
// it is whole, so that a kill half-way leaves none that looks usable.
func (f *folder) initialise(ctx context.Context, c *config, bin install) error {
	if err := f.root.RemoveAll(newClusterName); err != nil {
		return fmt.Errorf("embedded: %w: removing a half-made data directory: %w", ErrDataDir, err)
	}
	args := []string{
		"-D", filepath.Join(f.path, newClusterName),
		"--username=" + role,
		"--pwfile=" + filepath.Join(f.path, passwordName),
		"--auth=scram-sha-256",
		"--encoding=UTF8",
		// The same order of texts on every machine, and the quickest one.
		"--locale=C",
		"--no-instructions",
	}
	if c.temporary || c.settings["fsync"] == "off" {
		args = append(args, "--no-sync") // it need not survive a power cut
	}
	out, err := run(f.command(ctx, filepath.Join(bin.dir, "initdb"), args...), "")
	if err != nil {
		if strings.Contains(out, "could not look up effective user ID") {
			return fmt.Errorf("embedded: initialising %s: user id %d has no name, which PostgreSQL needs: "+
				"add it to /etc/passwd, or run as a user that is there", f.path, f.account.uid)
		}
		return fmt.Errorf("embedded: initialising %s: %w: %s", f.path, commandError(ctx, err), reason(strings.Split(out, "\n")))
	}
	if err := f.root.Rename(newClusterName, clusterName); err != nil {
		return fmt.Errorf("embedded: initialising %s: %w", f.path, err)
	}
	return nil
}

// prepare creates the database and sets the password in PostgreSQL's
// single-user mode, which needs neither a connection nor a client program. It
// runs at every start: it takes some 40 ms, and mends a dropped database and a
// lost password file.
func (f *folder) prepare(ctx context.Context, c *config, bin install, password string) error {
	args := append([]string{"--single", "-D", f.cluster()}, c.settingArgs(f.mark())...)
	cmd := f.command(ctx, filepath.Join(bin.dir, "postgres"), append(args, "postgres")...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := run(cmd, "CREATE DATABASE "+database+"\nALTER ROLE "+role+" PASSWORD '"+password+"'\n")
	lines := strings.Split(out, "\n")
	if err != nil {
		if strings.Contains(out, "pre-existing shared memory block") {
			return errSurvivors
		}
		return fmt.Errorf("embedded: preparing the database in %s: %w: %s", f.path, commandError(ctx, err), reason(lines))
	}
	for _, line := range lines {
		_, failure, found := strings.Cut(line, "ERROR:  ")
		if found && failure != `database "`+database+`" already exists` {
			return fmt.Errorf("embedded: preparing the database in %s: %s", f.path, oneLine(failure))
		}
	}
	return nil
}

// commandError prefers why a command was ended over how.
func commandError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
