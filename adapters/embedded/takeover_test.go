//go:build unix

package embedded

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestASecondLiveOwnerIsRefused(t *testing.T) {
	needServer(t)
	dir := madeFolder(t)
	s := start(t, WithDataDir(dir))
	_, err := Start(t.Context(), testOptions(t, WithDataDir(dir))...)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("a second owner in this process: %v", err)
	}
	reply, _ := startHelper(t, self(t), nil, helperSpec{DataDir: dir})
	if !strings.Contains(reply.Error, ErrInUse.Error()) {
		t.Errorf("a second owner in another process: %+v", reply)
	}
	query(t, s.DSN(), "SELECT 1") // the first one is none the worse
}

func TestPostgresEndsWithAKilledParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends a process with its parent")
	}
	needServer(t)
	dir := madeFolder(t)
	reply, kill := startHelper(t, self(t), nil, helperSpec{DataDir: dir})
	if reply.Error != "" {
		t.Fatal(reply.Error)
	}
	query(t, reply.DSN, "SELECT 1")
	kill()
	until(t, "PostgreSQL ends", func() bool { return !servesCluster(reply.PID, filepath.Join(dir, clusterName)) })
}

func TestASurvivorOfAKilledParentIsTakenOver(t *testing.T) {
	needServer(t)
	dir := madeFolder(t)
	reply, kill := startHelper(t, self(t), nil, helperSpec{DataDir: dir, Orphan: true})
	if reply.Error != "" {
		t.Fatal(reply.Error)
	}
	exec1(t, reply.DSN, "CREATE TABLE t AS SELECT 5 AS n")
	kill()
	query(t, reply.DSN, "SELECT 1") // it lives on
	s := start(t, WithDataDir(dir))
	if s.pm.cmd.Process.Pid == reply.PID || servesCluster(reply.PID, filepath.Join(dir, clusterName)) {
		t.Error("the survivor still runs")
	}
	if got := query(t, s.DSN(), "SELECT n FROM t"); got != "5" {
		t.Errorf("the table holds %q", got)
	}
}

func TestAKillOfBothIsRecoveredFromThoughThePidIsAnothers(t *testing.T) {
	needServer(t)
	dir := madeFolder(t)
	reply, kill := startHelper(t, self(t), nil, helperSpec{DataDir: dir, Orphan: true})
	if reply.Error != "" {
		t.Fatal(reply.Error)
	}
	exec1(t, reply.DSN, "CREATE TABLE t AS SELECT 6 AS n")
	if dsn, err := Running(dir); err != nil || dsn != reply.DSN {
		t.Errorf("Running: %v", err)
	}
	// A backend in a long statement outlives its postmaster without noticing.
	busy := make(chan error, 1)
	go func() {
		_, err := tryQuery(reply.DSN, "SELECT count(*) FROM generate_series(1, 1000000000000)")
		busy <- err
	}()
	until(t, "a backend is busy", func() bool {
		return query(t, reply.DSN, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series(1,%' AND state = 'active' AND pid <> pg_backend_pid()") == "1"
	})
	kill()
	if err := syscall.Kill(reply.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "it is seen that nothing runs there", func() bool { _, err := Running(dir); return errors.Is(err, ErrNotRunning) })
	// A live process of the same user, not a PostgreSQL, gets its number.
	pid, rest := pidFile(t, dir)
	if pid != reply.PID {
		t.Fatalf("postmaster.pid names %d, not %d", pid, reply.PID)
	}
	foreign := sleeper(t, dir)
	if err := os.WriteFile(filepath.Join(dir, clusterName, "postmaster.pid"), fmt.Appendf(nil, "%d\n%s", foreign, rest), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, WithDataDir(dir))
	if got := query(t, s.DSN(), "SELECT n FROM t"); got != "6" {
		t.Errorf("the table holds %q", got)
	}
	if err := <-busy; err == nil {
		t.Error("the busy statement ended well")
	}
	if !processExists(foreign) {
		t.Error("the foreign process was killed")
	}
}

// sleeper starts a process other than PostgreSQL as the owner of dir.
func sleeper(t *testing.T, dir string) int {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "60")
	if runsAsRoot() {
		uid, gid := ownerOf(info)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func TestAServerStartedByHandIsLeftAlone(t *testing.T) {
	needServer(t)
	dir := madeFolder(t)
	// pg_ctl starts it like this: with the folder, without the lock of this package.
	s := start(t, WithDataDir(dir))
	f := s.folder
	stop(t, s)
	byHand := exec.Command(filepath.Join(s.BinDir(), "postgres"), "-D", filepath.Join(dir, clusterName),
		"-c", "listen_addresses=", "-c", "unix_socket_directories="+filepath.Join(dir, clusterName))
	byHand.SysProcAttr = f.account.sysProcAttr(true)
	byHand.Dir = "/"
	if err := byHand.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = byHand.Process.Signal(syscall.SIGQUIT)
		_ = byHand.Wait()
	})
	until(t, "the other one is ready", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, clusterName, "postmaster.pid"))
		return err == nil && strings.Contains(string(b), "ready")
	})
	_, err := Start(t.Context(), testOptions(t, WithDataDir(dir))...)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "pg_ctl stop") {
		t.Errorf("over a server started by hand: %v", err)
	}
	if !processExists(byHand.Process.Pid) {
		t.Error("it was killed")
	}
}
