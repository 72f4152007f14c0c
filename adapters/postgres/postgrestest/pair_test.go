package postgrestest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/embedded"
	"github.com/pgqueue/pgqueue/adapters/postgres"
)

// pair is a durable primary and a standby that streams from it, for one test alone.
type pair struct {
	primary *embedded.Server
	// URL leads to whichever of the two can be written to; primaryURL and standbyURL to one of them.
	URL, primaryURL, standbyURL string

	standby *exec.Cmd
	source  string        // the standby's setting that names the primary
	ended   chan struct{} // closed when the standby has
}

// startPair starts both, with pgqueue's schema, and returns when the standby streams. A commit of the primary waits for a
// synchronous standby, if its synchronous_commit says so.
func startPair(t *testing.T, isSynchronous bool, commit string) *pair {
	t.Helper()
	base, err := os.MkdirTemp("", "pgqueue-pair-") // not t.TempDir's, which only root may enter where the test is root
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	if err := os.Chmod(base, 0o777); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(base, "primary")
	// The first start only makes the folder: a copy of one that was shut down is a standby.
	plain := append(binaries(), embedded.WithDataDir(data))
	first, err := embedded.Start(t.Context(), plain...)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, first.DSN())
	up(t, s)
	s.Close()
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(base, "standby")
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", filepath.Join(data, "data"), copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p := &pair{ended: make(chan struct{})}
	if p.primary, err = embedded.Start(t.Context(), append(plain, embedded.WithSetting("wal_keep_size", "1GB"),
		embedded.WithSetting("synchronous_commit", commit))...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := cleanupContext(t)
		defer cancel()
		_ = p.primary.Stop(ctx) // most tests have killed it
	})
	p.primaryURL = p.primary.DSN()
	p.startStandby(t, copied)
	conn := connect(t, p.primaryURL)
	want := "streaming async"
	if isSynchronous {
		want = "streaming quorum"
		sql(t, conn, "alter system set synchronous_standby_names = 'ANY 1 (standby)'", "select pg_reload_conf()")
	}
	waitFor(t, func() (bool, string) {
		state := value[string](t, conn, "select coalesce(string_agg(state || ' ' || sync_state, ', '), 'none') from pg_stat_replication")
		return state == want, state
	})
	return p
}

// startStandby starts a server on dir that streams from the primary.
func (p *pair) startStandby(t *testing.T, dir string) {
	t.Helper()
	u, err := url.Parse(p.primaryURL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	own, both := *u, *u
	own.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	both.Host = u.Host + "," + own.Host
	both.RawQuery += "&target_session_attrs=read-write"
	p.standbyURL, p.URL = own.String(), both.String()

	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	password, _ := u.User.Password()
	p.source = fmt.Sprintf("primary_conninfo = 'host=127.0.0.1 port=%s user=%s password=%s application_name=standby'", u.Port(), u.User.Username(), password)
	for name, text := range map[string]string{"standby.signal": "", "postgresql.auto.conf": p.source + "\n"} {
		if err := errors.Join(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600), os.Chown(filepath.Join(dir, name), int(owner.Uid), int(owner.Gid))); err != nil {
			t.Fatal(err)
		}
	}
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context())) // it is there for other cleanups
	var log bytes.Buffer
	p.standby = exec.CommandContext(ctx, filepath.Join(p.primary.BinDir(), "postgres"), "-D", dir, "-p", strconv.Itoa(port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "hot_standby=on", "-c", "log_min_messages=log")
	p.standby.Stdout, p.standby.Stderr = &log, &log
	p.standby.Dir = dir
	p.standby.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		p.standby.SysProcAttr.Credential = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid, Groups: []uint32{}}
	}
	p.standby.Cancel = func() error { return p.standby.Process.Signal(syscall.SIGQUIT) } // an immediate shutdown
	p.standby.WaitDelay = patience
	if err := p.standby.Start(); err != nil {
		end()
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.standby.Wait() // ended by Cancel
	}()
	t.Cleanup(func() {
		end()
		<-p.ended
		if t.Failed() {
			t.Logf("the standby's log:\n%s", log.Bytes())
		}
	})
}

// cut ends the stream to the standby, which stays as it is.
func (p *pair) cut(t *testing.T) {
	t.Helper()
	conn := connect(t, p.standbyURL)
	sql(t, conn, "alter system set primary_conninfo = ''", "select pg_reload_conf()")
	waitFor(t, func() (bool, string) {
		n := value[int](t, conn, "select count(*) from pg_stat_wal_receiver")
		return n == 0, fmt.Sprintf("%d still receive", n)
	})
}

// rejoin undoes cut.
func (p *pair) rejoin(t *testing.T) {
	t.Helper()
	sql(t, connect(t, p.standbyURL), "alter system set "+p.source, "select pg_reload_conf()")
}

// failOver ends the primary by SIGKILL and makes the standby one.
func (p *pair) failOver(t *testing.T) {
	t.Helper()
	crash(t, p.primary)
	p.promote(t)
}

func (p *pair) promote(t *testing.T) {
	t.Helper()
	conn := connect(t, p.standbyURL)
	if !value[bool](t, conn, "select pg_promote(true, 60)") {
		t.Fatal("the standby was not promoted")
	}
}

// openPair opens a store that follows the primary.
func openPair(t *testing.T, p *pair, opts ...postgres.Option) *postgres.Store {
	t.Helper()
	return open(t, p.URL, opts...)
}
