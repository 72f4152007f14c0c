//go:build unix

package embedded

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestAFreshServerTakesConnectionsAndKeepsItsDataBetweenRuns(t *testing.T) {
	needServer(t)
	dir := filepath.Join(openDir(t), "a b", "pg") // parents are made, blanks do no harm
	// A kill during initialisation leaves this.
	if err := os.MkdirAll(filepath.Join(dir, newClusterName, "base"), 0o755); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	s := start(t, WithDataDir(dir))
	t.Logf("fresh start: %v", time.Since(begin))
	if s.DataDir() != dir || s.Version() < minMajor || !holdsServer(s.BinDir()) {
		t.Errorf("DataDir %q, Version %d, BinDir %q", s.DataDir(), s.Version(), s.BinDir())
	}
	if _, err := os.Stat(filepath.Join(dir, newClusterName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the half-made directory: %v", err)
	}
	if got := query(t, s.DSN(), "SELECT current_database()"); got != database {
		t.Errorf("the database is %q", got)
	}
	if got := query(t, s.DSN(), "SELECT current_setting('server_version_num')::int / 10000"); got != strconv.Itoa(s.Version()) {
		t.Errorf("the server is %s, Version says %d", got, s.Version())
	}
	exec1(t, s.DSN(), "CREATE TABLE kept AS SELECT 42 AS n")
	stop(t, s)
	// A file that a user added must not block access to the data.
	if err := os.WriteFile(filepath.Join(dir, "notes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	default:
		t.Error("Done is open after Stop")
	}
	if s.Err() != nil {
		t.Errorf("Err after Stop: %v", s.Err())
	}
	if _, err := tryQuery(s.DSN(), "SELECT 1"); err == nil {
		t.Error("it takes connections after Stop")
	}

	begin = time.Now()
	again := start(t, WithDataDir(dir))
	t.Logf("warm start: %v", time.Since(begin))
	if got := query(t, again.DSN(), "SELECT n FROM kept"); got != "42" {
		t.Errorf("kept %q", got)
	}
	if again.DSN() != s.DSN() {
		t.Errorf("the DSN changed between runs")
	}
}

// TestALocaleThatTheMachineLacksChangesNothing: initdb refuses such a locale, so nothing would start.
func TestALocaleThatTheMachineLacksChangesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL; -short leaves it out")
	}
	for _, name := range []string{"LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES"} {
		t.Setenv(name, "xx_YY.UTF-8")
	}
	s := start(t, WithDataDir(filepath.Join(openDir(t), "a b", "pg")))
	if got := query(t, s.DSN(), "SELECT datcollate || ' ' || datctype FROM pg_database WHERE datname = current_database()"); got != "C C" {
		t.Errorf("the locales are %s, want C C", got)
	}
}

func TestItIsDurableAndPrivateUnlessToldOtherwise(t *testing.T) {
	needServer(t)
	dir := madeFolder(t)
	// An old setting of some test must not stay in effect.
	conf := filepath.Join(dir, clusterName, "postgresql.conf")
	f, err := os.OpenFile(conf, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("\nfsync = off\nlisten_addresses = '*'\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s := start(t, WithDataDir(dir), WithSetting("fsync", "on"), WithSetting("Work_Mem", "7MB"))
	for setting, want := range map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
		"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "work_mem": "7MB",
	} {
		if got := query(t, s.DSN(), "SELECT current_setting('"+setting+"')"); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	if n := query(t, s.DSN(), "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'"); n != "0" {
		t.Errorf("%s rules let in without SCRAM", n)
	}
	u, err := url.Parse(s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "wrong")
	if _, err := tryQuery(u.String(), "SELECT 1"); err == nil {
		t.Error("a wrong password gets in")
	}
	info, err := os.Stat(filepath.Join(dir, passwordName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the password's file: %v, %v", info, err)
	}
}

func TestSettingsAreDurableByDefault(t *testing.T) {
	c, err := newConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	args := strings.Join(c.settingArgs("mark"), " ")
	for _, want := range []string{"fsync=on", "full_page_writes=on", "synchronous_commit=on", "listen_addresses=127.0.0.1"} {
		if !strings.Contains(args, want) {
			t.Errorf("no %s in %s", want, args)
		}
	}
}

func TestALostPasswordAndADroppedDatabaseAreMended(t *testing.T) {
	needServer(t)
	dir := madeFolder(t)
	s := start(t, WithDataDir(dir))
	u, err := url.Parse(s.DSN())
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/postgres"
	exec1(t, u.String(), "DROP DATABASE "+database)
	stop(t, s)
	if err := os.Remove(filepath.Join(dir, passwordName)); err != nil {
		t.Fatal(err)
	}
	again := start(t, WithDataDir(dir))
	if query(t, again.DSN(), "SELECT 1") != "1" || again.DSN() == s.DSN() {
		t.Error("no new password")
	}
}

func TestStopIsIdempotent(t *testing.T) {
	needServer(t)
	s := start(t, WithDataDir(madeFolder(t)))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := s.Stop(context.Background()); err != nil {
				t.Errorf("Stop: %v", err)
			}
		})
	}
	all.Wait()
	stop(t, s)
}

func TestStopCutsOffSessionsAndEndsAtOnceAtTheDeadline(t *testing.T) {
	needServer(t)
	dir := madeFolder(t)
	s := start(t, WithDataDir(dir))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Stop(cancelled)
	if err == nil || !strings.Contains(err.Error(), "the next start recovers it") || !errors.Is(err, context.Canceled) {
		t.Errorf("Stop without time returned %v", err)
	}
	again := start(t, WithDataDir(dir)) // recovers
	exec1(t, again.DSN(), "CREATE TABLE t AS SELECT 1 AS n")
	ended := make(chan error, 1)
	go func() {
		_, err := tryQuery(again.DSN(), "SELECT pg_sleep(60)")
		ended <- err
	}()
	until(t, "a session sleeps", func() bool {
		return query(t, again.DSN(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"
	})
	begin := time.Now()
	stop(t, again)
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("a busy session held Stop up for %v", took)
	}
	if err := <-ended; err == nil {
		t.Error("the session went on")
	}
}

func TestATemporaryFolderIsRemoved(t *testing.T) {
	needServer(t)
	s := start(t, WithTemporary())
	query(t, s.DSN(), "SELECT 1")
	stop(t, s)
	if _, err := os.Stat(s.DataDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", s.DataDir(), err)
	}
}

func TestAFailedStartLeavesNothing(t *testing.T) {
	needServer(t)
	dir := madeFolder(t)
	_, err := Start(t.Context(), testOptions(t, WithDataDir(dir), WithSetting("max_connections", "nonsense"))...)
	if err == nil || !strings.Contains(err.Error(), "max_connections") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("Start with a senseless setting: %v", err)
	}
	begin := time.Now()
	_, err = Start(t.Context(), testOptions(t, WithDataDir(dir), WithStartTimeout(time.Millisecond))...)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 10*time.Second {
		t.Fatalf("Start without time, after %v: %v", time.Since(begin), err)
	}
	query(t, start(t, WithDataDir(dir)).DSN(), "SELECT 1")
}

func TestAPortInUseIsRefusedWhenAskedForAndAvoidedElse(t *testing.T) {
	needServer(t)
	dir := madeFolder(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	_, err = Start(t.Context(), testOptions(t, WithDataDir(dir), WithPort(port))...)
	if !errors.Is(err, ErrPortTaken) || !strings.Contains(err.Error(), "WithPort") {
		t.Errorf("a taken port: %v", err)
	}
	// The port of the last run is only a preference.
	if err := os.WriteFile(filepath.Join(dir, portName), []byte(strconv.Itoa(port)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, WithDataDir(dir))
	if strings.Contains(s.DSN(), ":"+strconv.Itoa(port)+"/") {
		t.Error("it uses a taken port")
	}
	stop(t, s)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, WithDataDir(dir), WithPort(port))
	if !strings.Contains(s.DSN(), ":"+strconv.Itoa(port)+"/") {
		t.Errorf("WithPort(%d) is not in the DSN", port)
	}
}

func TestADeathOfPostgresIsTold(t *testing.T) {
	needServer(t)
	dir := madeFolder(t)
	s := start(t, WithDataDir(dir))
	exec1(t, s.DSN(), "CREATE TABLE t AS SELECT 7 AS n")
	if err := syscall.Kill(s.pm.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("Done stays open")
	}
	if s.Err() == nil || !strings.Contains(s.Err().Error(), "killed") {
		t.Errorf("Err is %v", s.Err())
	}
	if _, err := Start(t.Context(), testOptions(t, WithDataDir(dir))...); !errors.Is(err, ErrInUse) {
		t.Errorf("before Stop a second Start returned %v", err)
	}
	stop(t, s)
	again := start(t, WithDataDir(dir))
	if got := query(t, again.DSN(), "SELECT n FROM t"); got != "7" {
		t.Errorf("after the crash the table holds %q", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]Option{
		"port":              {WithPort(65536)},
		"negative port":     {WithPort(-1)},
		"reserved setting":  {WithSetting("listen_addresses", "*")},
		"setting's name":    {WithSetting("a b", "c")},
		"setting's value":   {WithSetting("work_mem", "1MB\nfsync=off")},
		"two kinds of data": {WithTemporary(), WithDataDir("/x")},
		"no start timeout":  {WithStartTimeout(0)},
		"no stop timeout":   {WithStopTimeout(-time.Second)},
		"no logger":         {WithLogger(nil)},
	} {
		if _, err := Start(t.Context(), opts...); err == nil || !strings.HasPrefix(err.Error(), "embedded: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newConfig([]Option{nil, WithPort(0), WithPort(65535), WithSetting("auto_explain.log_analyze", "on")}); err != nil {
		t.Errorf("sound options: %v", err)
	}
}
