package embedded

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Two locks show which processes use a data folder. Neither can be stale: the kernel frees a lock with its last holder.
//
//   - The program that called Start holds owner.lock until Stop.
//   - The processes of PostgreSQL inherit server.lock. When this program can take it, none of them lives. That holds
//     even when postmaster.pid names a process, since another program may have that number by now.

// errLocked means that another process holds the lock.
var errLocked = errors.New("locked by another process")

// pollEvery is the interval of polls for conditions that the system does not signal.
const pollEvery = 10 * time.Millisecond

// lockOwner takes the owner lock or returns ErrInUse with the process that holds it.
func (f *folder) lockOwner() error {
	file, err := f.createFile(ownerLockName, os.O_RDWR)
	if err != nil {
		return fmt.Errorf("embedded: %w: %w", ErrDataDir, err)
	}

	if err := tryLockFile(file); err != nil {
		holder := "another program"
		if b, rerr := fs.ReadFile(f.root.FS(), ownerLockName); rerr == nil && len(b) > 0 {
			holder = "process " + oneLine(string(b))
		}
		_ = file.Close()
		if errors.Is(err, errLocked) {
			return fmt.Errorf("embedded: %w: %s uses %s: stop it, connect to its server, or use another data folder",
				ErrInUse, holder, f.path)
		}
		return fmt.Errorf("embedded: %w: locking %s: %w", ErrDataDir, f.path, err)
	}

	f.owner = file
	// The number serves only the message above; the lock alone decides.
	if err := file.Truncate(0); err == nil {
		_, _ = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return nil
}

// lockServer takes the server lock. A PostgreSQL that outlived its program still holds it, so lockServer stops that
// server first. This package cannot adopt it: it could not follow its log or its end, and the port and the settings
// may differ.
func (f *folder) lockServer(ctx context.Context, log *slog.Logger, stopTimeout time.Duration) error {
	file, err := f.createFile(serverLockName, os.O_RDWR)
	if err != nil {
		return fmt.Errorf("embedded: %w: %w", ErrDataDir, err)
	}

	if err := f.waitServerGone(ctx, file, log, stopTimeout); err != nil {
		_ = file.Close()
		return err
	}

	f.server = file
	return f.dropStalePid(log)
}

// waitServerGone takes the server lock. While survivors hold it, waitServerGone sends them a fast, an immediate and a
// hard stop in turn. It returns ErrInUse when they outlive the last one.
func (f *folder) waitServerGone(ctx context.Context, file *os.File, log *slog.Logger, stopTimeout time.Duration) error {
	err := tryLockFile(file)
	if !errors.Is(err, errLocked) {
		return lockError(f, err)
	}

	log.InfoContext(ctx, "stopping a PostgreSQL left over from a program that was killed", "folder", f.path)
	steps := []struct {
		sig  syscall.Signal
		wait time.Duration
	}{
		{syscall.SIGINT, stopTimeout},
		{syscall.SIGQUIT, quitTimeout},
		{syscall.SIGKILL, killTimeout},
	}

	for _, step := range steps {
		f.signalSurvivors(step.sig)
		deadline := time.Now().Add(step.wait)
		for time.Now().Before(deadline) {
			if err := tryLockFile(file); !errors.Is(err, errLocked) {
				return lockError(f, err)
			}

			select {
			case <-ctx.Done():
				return fmt.Errorf("embedded: stopping the PostgreSQL left in %s: %w", f.path, context.Cause(ctx))
			case <-time.After(pollEvery):
			}
		}
	}
	return fmt.Errorf("embedded: %w: PostgreSQL processes left over in %s do not end: kill them", ErrInUse, f.path)
}

// lockError wraps an error of tryLockFile with the folder; nil stays nil.
func lockError(f *folder, err error) error {
	if err != nil {
		return fmt.Errorf("embedded: %w: locking %s: %w", ErrDataDir, f.path, err)
	}
	return nil
}

// signalSurvivors signals the postmaster of postmaster.pid. When that one is dead, it signals the backends that it
// left behind. A backend in a long statement does not notice the end of its postmaster at once.
func (f *folder) signalSurvivors(sig syscall.Signal) {
	if pid := f.serverPid(); pid > 0 && servesCluster(pid, f.cluster()) {
		_ = signalProcess(pid, sig)
		return
	}

	if sig == syscall.SIGINT {
		sig = syscall.SIGTERM // SIGINT would cancel only the statement of a backend
	}
	for _, pid := range strayBackends(f.processMark()) {
		_ = signalProcess(pid, sig)
	}
}

// processMark returns the name of the folder in the titles of PostgreSQL's processes. The setting cluster_name puts it
// there.
func (f *folder) processMark() string {
	sum := sha256.Sum256([]byte(f.path))
	return "pgqueue-" + hex.EncodeToString(sum[:8])
}

// hasMark reports whether a process title belongs to a child of a postmaster with that mark, such as "postgres:
// <mark>: checkpointer".
func hasMark(title, mark string) bool {
	return strings.HasPrefix(title, "postgres: "+mark+": ")
}

// serverPid returns the process number in postmaster.pid, or 0 when there is none. Single-user mode writes the number
// with a minus sign.
func (f *folder) serverPid() int {
	b, err := f.root.ReadFile(clusterName + "/postmaster.pid")
	if err != nil {
		return 0
	}

	line, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0
	}
	return max(pid, -pid)
}

// dropStalePid removes a postmaster.pid when another program has its process number now. PostgreSQL would refuse to
// start over it. The held server lock excludes servers of this package; a server that was started by hand may still
// live.
func (f *folder) dropStalePid(log *slog.Logger) error {
	pid := f.serverPid()
	if pid == 0 || !processExists(pid) {
		return nil // PostgreSQL replaces such a file itself
	}

	if servesCluster(pid, f.cluster()) {
		return fmt.Errorf("embedded: %w: PostgreSQL (process %d) runs in %s, started by hand: stop it with pg_ctl stop -D %s",
			ErrInUse, pid, f.path, f.cluster())
	}

	log.Info("removing a stale postmaster.pid: its number belongs to another program", "pid", pid)
	if err := f.root.Remove(clusterName + "/postmaster.pid"); err != nil {
		return fmt.Errorf("embedded: %w: stale postmaster.pid: %w: remove it", ErrDataDir, err)
	}
	return nil
}
