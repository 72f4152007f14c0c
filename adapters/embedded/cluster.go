package embedded

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
)

// Database, role and address are the same for every server.
const (
	database = "pgqueue"
	role     = "pgqueue"
	host     = "127.0.0.1"
)

// initialise creates the data directory under another name and renames it when it is complete. So a kill during
// initdb leaves no directory that looks usable.
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
		// Texts sort alike on every machine, and C is the fastest order.
		"--locale=C",
		"--no-instructions",
	}

	if c.temporary || c.settings["fsync"] == "off" {
		args = append(args, "--no-sync") // this data may be lost in a power cut
	}

	out, err := runCommand(f.command(ctx, filepath.Join(bin.dir, "initdb"), args...), "")
	if err != nil {
		if strings.Contains(out, "could not look up effective user ID") {
			return fmt.Errorf("embedded: initialising %s: user id %d has no name, which PostgreSQL needs; "+
				"add it to /etc/passwd, or run as a user that is there", f.path, f.account.uid)
		}
		return fmt.Errorf("embedded: initialising %s: %w: %s", f.path, commandError(ctx, err), findReasonIn(strings.Split(out, "\n")))
	}

	if err := f.root.Rename(newClusterName, clusterName); err != nil {
		return fmt.Errorf("embedded: initialising %s: %w", f.path, err)
	}
	return nil
}

// prepareDatabase creates the database and sets the password in the single-user mode of PostgreSQL, which needs no connection
// and no client program. It runs at every start and takes about 40 ms. So a start also repairs a dropped database and
// a lost password file.
func (f *folder) prepareDatabase(ctx context.Context, c *config, bin install, password string) error {
	args := append([]string{"--single", "-D", f.cluster()}, c.settingArgs(f.processMark())...)
	cmd := f.command(ctx, filepath.Join(bin.dir, "postgres"), append(args, "postgres")...)
	// A kill would leave shared memory behind, which the next start has to clean up.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }

	out, err := runCommand(cmd, "CREATE DATABASE "+database+"\nALTER ROLE "+role+" PASSWORD '"+password+"'\n")
	lines := strings.Split(out, "\n")
	if err != nil {
		if strings.Contains(out, "pre-existing shared memory block") {
			return errSurvivors
		}
		return fmt.Errorf("embedded: preparing the database in %s: %w: %s", f.path, commandError(ctx, err), findReasonIn(lines))
	}

	// Single-user mode reports a failed statement only in its output. An existing database is the usual case.
	for _, line := range lines {
		_, failure, found := strings.Cut(line, "ERROR:  ")
		if found && failure != `database "`+database+`" already exists` {
			return fmt.Errorf("embedded: preparing the database in %s failed: %s; correct the settings, or restore the folder", f.path, oneLine(failure))
		}
	}
	return nil
}

// commandError returns the cause that ended ctx, or err while ctx is not ended.
func commandError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
