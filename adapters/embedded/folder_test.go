//go:build unix

package embedded

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func needRoot(t *testing.T) {
	t.Helper()
	if !runsAsRoot() {
		t.Skip("only root can become another user")
	}
}

func TestAFolderOfAnotherMajorVersionIsRefused(t *testing.T) {
	needServer(t)
	dir := madeFolder(t)
	version := filepath.Join(dir, clusterName, "PG_VERSION")
	was, err := os.ReadFile(version)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(version, []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Start(t.Context(), testOptions(t, WithDataDir(dir))...)
	if !errors.Is(err, ErrMajorVersion) || !strings.Contains(err.Error(), "made by PostgreSQL 99") ||
		!strings.Contains(err.Error(), strings.TrimSpace(string(was))) {
		t.Errorf("another major version: %v", err)
	}
	if err := os.WriteFile(version, []byte("soup\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = Start(t.Context(), testOptions(t, WithDataDir(dir))...); !errors.Is(err, ErrDataDir) {
		t.Errorf("no version at all: %v", err)
	}
}

func TestAFolderOfOthersIsRefusedAndLeftAsItIs(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), WithDataDir(dir), WithFetcher(nil))
	if !errors.Is(err, ErrDataDir) || !strings.Contains(err.Error(), "thesis.tex") {
		t.Errorf("a folder with files of others: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("it now holds %v, %v", entries, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if uid, _ := ownerOf(info); int(uid) != os.Geteuid() {
		t.Errorf("it belongs to %d now", uid)
	}
	if _, err := Start(t.Context(), WithDataDir(filepath.Join(dir, "thesis.tex"))); !errors.Is(err, ErrDataDir) {
		t.Errorf("a file as the folder: %v", err)
	}
}

func TestRootRunsPostgresAsAnotherUser(t *testing.T) {
	needRoot(t)
	needServer(t)
	dir := madeFolder(t)
	s := start(t, WithDataDir(dir))
	if s.folder.account.uid == 0 || !s.folder.account.other {
		t.Errorf("PostgreSQL runs as %+v", s.folder.account)
	}
	stop(t, s)
	// No file of root stays behind.
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if uid, _ := ownerOf(info); uid != s.folder.account.uid {
			t.Errorf("%s belongs to %d", path, uid)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// The user itself can use the folder next, and root after it.
	reply, kill := startHelper(t, publicSelf(t), &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: s.folder.account.uid, Gid: s.folder.account.gid},
	}, helperSpec{DataDir: dir})
	if reply.Error != "" {
		t.Fatal(reply.Error)
	}
	exec1(t, reply.DSN, "CREATE TABLE t AS SELECT 8 AS n")
	kill()
	if got := query(t, start(t, WithDataDir(dir)).DSN(), "SELECT n FROM t"); got != "8" {
		t.Errorf("the table holds %q", got)
	}
}

// publicSelf copies the test binary to a folder where any user may run it.
func publicSelf(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(openDir(t), "helper")
	writeProgram(t, name, b)
	return name
}

func TestRootRunsPostgresAsTheOwnerOfTheNearestFolder(t *testing.T) {
	needRoot(t)
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("no unprivileged user")
	}
	needServer(t)
	home := openDir(t)
	owner := chown(t, home, nobody)
	s := start(t, WithDataDir(filepath.Join(home, "share", "pg")))
	query(t, s.DSN(), "SELECT 1")
	for _, dir := range []string{filepath.Join(home, "share"), s.DataDir(), filepath.Join(s.DataDir(), ownerLockName)} {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if uid, _ := ownerOf(info); uid != owner {
			t.Errorf("%s belongs to %d, not %d", dir, uid, owner)
		}
	}
}

func chown(t *testing.T, path string, u *user.User) uint32 {
	t.Helper()
	if err := os.Chown(path, atoi(t, u.Uid), atoi(t, u.Gid)); err != nil {
		t.Fatal(err)
	}
	return uint32(atoi(t, u.Uid))
}

func TestAClosedParentIsNamed(t *testing.T) {
	needRoot(t)
	t.Parallel()
	closed := filepath.Join(openDir(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), WithDataDir(filepath.Join(closed, "pg")), WithFetcher(nil))
	if !errors.Is(err, ErrDataDir) || !strings.Contains(err.Error(), "may not enter "+closed) || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("a parent that is closed: %v", err)
	}
}

func TestAnothersFolderIsRefusedWithoutRoot(t *testing.T) {
	needRoot(t)
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("no unprivileged user")
	}
	t.Parallel()
	dir := openDir(t) // root's, open to all to look into
	reply, _ := startHelper(t, publicSelf(t), &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(atoi(t, nobody.Uid)), Gid: uint32(atoi(t, nobody.Gid))},
	}, helperSpec{DataDir: dir})
	if !strings.Contains(reply.Error, "belongs to user id 0") {
		t.Errorf("another's folder: %+v", reply)
	}
}

func TestRunningSaysWhereNothingRuns(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	if _, err := Running(filepath.Join(dir, "nowhere")); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, clusterName), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "1\n", "x\n\n\n5432\n\n\n\nready\n", "1\n\n\n5432\n\n\n\nstarting\n"} {
		if err := os.WriteFile(filepath.Join(dir, clusterName, "postmaster.pid"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Running(dir); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestDefaultDataDir(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data/home")
	if dir, err := DefaultDataDir(); err != nil || dir != "/data/home/pgqueue/postgres" {
		t.Errorf("with XDG_DATA_HOME: %q, %v", dir, err)
	}
	t.Setenv("XDG_DATA_HOME", "relative") // to be ignored, says its specification
	dir, err := DefaultDataDir()
	if err != nil || !filepath.IsAbs(dir) || !strings.HasSuffix(dir, "pgqueue/postgres") {
		t.Errorf("without: %q, %v", dir, err)
	}
	if home, err := os.UserHomeDir(); runsAsRoot() && err == nil && home != "/" && strings.HasPrefix(dir, home) {
		t.Errorf("root's data is in %s, which no other user may enter", dir)
	}
}
