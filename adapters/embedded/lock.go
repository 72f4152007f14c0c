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

// Two locks tell apart who uses a data folder, and neither can go stale: the
// kernel frees them with the last process that holds them.
//
//   - owner.lock is held by the program that called Start, until Stop.
//   - server.lock is inherited by PostgreSQL's processes. When this program can
//     take it, not one of them is left, whatever postmaster.pid says and
//     whichever process has that number by now.

// errLocked says that another process holds a lock.
var errLocked = errors.New("locked by another process")

// pollEvery is the pace of waits that the system gives no signal for.
const pollEvery = 10 * time.Millisecond

func (f *folder) lockOwner() error {
	file, err := f.create(ownerLockName, os.O_RDWR)
	if err != nil {
		return fmt.Errorf("embedded: %w: %w", ErrDataDir, err)
	}
	if err := tryLock(file); err != nil {
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
	// For the message above only: the lock is what counts.
	if err := file.Truncate(0); err == nil {
		_, _ = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return nil
}

// lockServer takes the server lock. A PostgreSQL that outlived its program still
// holds it; it is stopped, not used on: its log and its end could not be
// followed, and it may run with other settings, on another port.
func (f *folder) lockServer(ctx context.Context, log *slog.Logger, stopTimeout time.Duration) error {
	file, err := f.create(serverLockName, os.O_RDWR)
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

func (f *folder) waitServerGone(ctx context.Context, file *os.File, log *slog.Logger, stopTimeout time.Duration) error {
	err := tryLock(file)
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
			if err := tryLock(file); !errors.Is(err, errLocked) {
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

func lockError(f *folder, err error) error {
	if err != nil {
		return fmt.Errorf("embedded: %w: locking %s: %w", ErrDataDir, f.path, err)
	}
	return nil
}

// signalSurvivors signals the postmaster that postmaster.pid names, or, where
// that one is dead, the processes it left behind: a backend busy with a long
// statement does not notice at once that its postmaster is gone.
func (f *folder) signalSurvivors(sig syscall.Signal) {
	if pid := f.serverPid(); pid > 0 && servesCluster(pid, f.cluster()) {
		_ = kill(pid, sig)
		return
	}
	if sig == syscall.SIGINT {
		sig = syscall.SIGTERM // SIGINT only cancels a backend's statement
	}
	for _, pid := range strayBackends(f.mark()) {
		_ = kill(pid, sig)
	}
}

// mark names the folder in the titles of PostgreSQL's processes, through the
// setting cluster_name.
func (f *folder) mark() string {
	sum := sha256.Sum256([]byte(f.path))
	return "pgqueue-" + hex.EncodeToString(sum[:8])
}

// marked knows the title of a child of a postmaster with that mark, such as
// "postgres: <mark>: checkpointer".
func marked(title, mark string) bool {
	return strings.HasPrefix(title, "postgres: "+mark+": ")
}

// serverPid is the process number in postmaster.pid, 0 when there is none.
// Single-user mode writes it with a minus.
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

// dropStalePid removes a postmaster.pid whose number another program has by
// now, for PostgreSQL would refuse to start over it. The server lock being
// ours, no server of ours lives; one started by hand on this folder may.
func (f *folder) dropStalePid(log *slog.Logger) error {
	pid := f.serverPid()
	if pid == 0 || !alive(pid) {
		return nil // PostgreSQL deals with these itself
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
