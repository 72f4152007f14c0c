package postgrestest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Patroni, from its own documentation: a leader that does not answer is replaced after ttl, which may not be less.
const patroniConfig = `scope: pgqueue
name: %[1]s
etcd3: {host: "127.0.0.1:%[2]d"}
restapi: {listen: "127.0.0.1:%[3]d", connect_address: "127.0.0.1:%[3]d"}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 5
    synchronous_mode: true
  initdb: [encoding: UTF8, locale: C]
postgresql:
  listen: "127.0.0.1:%[4]d"
  connect_address: "127.0.0.1:%[4]d"
  data_dir: %[5]s/%[1]s
  bin_dir: %[6]s
  pgpass: %[5]s/%[1]s.pgpass
  authentication:
    superuser: {username: pgqueue, password: secret}
    replication: {username: standby, password: secret}
  pg_hba: ["host all all 127.0.0.1/32 scram-sha-256", "host replication standby 127.0.0.1/32 scram-sha-256"]
  parameters: {unix_socket_directories: "%[5]s", max_connections: 100}
`

// patroni is two nodes under Patroni, with a synchronous standby, on one etcd.
type patroni struct {
	dir   string
	url   string // of whichever leads
	names []string
	api   map[string]int
	nodes map[string]*exec.Cmd
}

// startPatroni starts it. A machine without it leaves the test out and says so; in CI that is a fault.
func startPatroni(t *testing.T) *patroni {
	t.Helper()
	needsDatabase(t)
	var exe [3]string
	for i, name := range []string{"patroni", "etcd", "/usr/lib/postgresql/*/bin/pg_controldata"} {
		found, _ := filepath.Glob(name)
		var err error
		if exe[i], err = exec.LookPath(append(found, name)[0]); err != nil {
			missing := "NOT TESTED under Patroni: " + name + " is not there (Debian: apt-get install patroni etcd-server postgresql)"
			if os.Getenv("CI") != "" {
				t.Fatal(missing)
			}
			fmt.Fprintln(os.Stderr, missing)
			t.Skip(missing)
		}
	}
	dir, err := os.MkdirTemp("", "pgqueue-patroni-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	attr := &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 { // PostgreSQL refuses to be root
		other, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(other.Uid)
		gid, _ := strconv.Atoi(other.Gid)
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{}}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	p := &patroni{dir: dir, names: []string{"one", "two"}, api: map[string]int{}, nodes: map[string]*exec.Cmd{}}
	start := func(name string, args ...string) *exec.Cmd {
		t.Helper()
		ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		var log bytes.Buffer
		cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.SysProcAttr = &log, &log, dir, attr
		cmd.Env = append(os.Environ(), "HOME="+dir)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // its PostgreSQL ends with it
		cmd.WaitDelay = patience
		if err := cmd.Start(); err != nil {
			end()
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = cmd.Wait()
		}()
		t.Cleanup(func() {
			end()
			<-ended
			if t.Failed() {
				t.Logf("%s:\n%s", name, log.Bytes())
			}
		})
		return cmd
	}
	ports := freePorts(t, 6)
	start("etcd", exe[1], "--data-dir", filepath.Join(dir, "etcd"), "--name", "etcd",
		"--listen-client-urls", fmt.Sprintf("http://127.0.0.1:%d", ports[0]), "--advertise-client-urls", fmt.Sprintf("http://127.0.0.1:%d", ports[0]),
		"--listen-peer-urls", fmt.Sprintf("http://127.0.0.1:%d", ports[1]), "--initial-advertise-peer-urls", fmt.Sprintf("http://127.0.0.1:%d", ports[1]),
		"--initial-cluster", fmt.Sprintf("etcd=http://127.0.0.1:%d", ports[1]))
	for i, name := range p.names {
		p.api[name] = ports[2+i]
		config := filepath.Join(dir, name+".yaml")
		text := fmt.Sprintf(patroniConfig, name, ports[0], ports[2+i], ports[4+i], dir, filepath.Dir(exe[2]))
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		p.nodes[name] = start(name, exe[0], config)
	}
	p.url = fmt.Sprintf("postgres://pgqueue:secret@127.0.0.1:%d,127.0.0.1:%d/postgres?sslmode=disable&target_session_attrs=read-write", ports[4], ports[5])
	p.settled(t)
	return p
}

// freePorts returns n different ports without a listener.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	if n == 0 {
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // when the others have been found
	return append(freePorts(t, n-1), l.Addr().(*net.TCPAddr).Port)
}

// role is what a node says of itself: "master" or "primary" when it leads, "sync_standby" when commits wait for it.
func (p *patroni) role(name string) string {
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/patroni", p.api[name]))
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	var state struct {
		State, Role string
		Sync        bool `json:"sync_standby"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&state); err != nil || state.State != "running" {
		return state.State
	}
	if state.Sync {
		return "sync_standby"
	}
	return strings.Replace(state.Role, "master", "primary", 1)
}

// leader waits for one among names.
func (p *patroni) leader(t *testing.T, names ...string) (leader string) {
	t.Helper()
	until(t, 3*time.Minute, func() (bool, string) {
		seen := map[string]string{}
		for _, name := range names {
			if seen[name] = p.role(name); seen[name] == "primary" {
				leader = name
			}
		}
		return leader != "", fmt.Sprint(seen)
	})
	return leader
}

// settled waits until one node leads and the other is its synchronous standby.
func (p *patroni) settled(t *testing.T) (leader, standby string) {
	t.Helper()
	until(t, 3*time.Minute, func() (bool, string) {
		leader, standby = "", ""
		seen := map[string]string{}
		for _, name := range p.names {
			switch seen[name] = p.role(name); seen[name] {
			case "primary":
				leader = name
			case "sync_standby":
				standby = name
			}
		}
		return leader != "" && standby != "", fmt.Sprint(seen)
	})
	return leader, standby
}

// until looks until done, for so long at most.
func until(t *testing.T, most time.Duration, look func() (done bool, seen string)) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		done, seen := look()
		if done {
			return
		}
		if time.Since(began) > most {
			t.Fatalf("waiting for %v in vain: %s", most, seen)
		}
	}
}

// kill ends a node as the loss of its machine does: Patroni and all of its PostgreSQL at once.
func (p *patroni) kill(t *testing.T, name string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, name, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.nodes[name].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, one := range append(children(pid), pid) {
		_ = syscall.Kill(one, syscall.SIGKILL)
	}
}

// switchOver asks Patroni to have the standby lead.
func (p *patroni) switchOver(t *testing.T, leader, to string) {
	t.Helper()
	client := http.Client{Timeout: time.Minute}
	body := fmt.Sprintf(`{"leader":%q,"candidate":%q}`, leader, to)
	answer, err := client.Post(fmt.Sprintf("http://127.0.0.1:%d/switchover", p.api[leader]), "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status)
	}
}

// TestPatroni has a leader hand over under load, and then one die under load, with clients that are not restarted.
func TestPatroni(t *testing.T) {
	if os.Getenv(fullEnv) == "" {
		t.Skip("in the long form, " + fullEnv + "=1")
	}
	p := startPatroni(t)
	s := open(t, p.url)
	up(t, s)
	l := startClients(t, s)
	l.more(t, 500)

	leader, standby := p.settled(t)
	began := time.Now()
	p.switchOver(t, leader, standby)
	if now := p.leader(t, standby); now != standby {
		t.Fatal(now)
	}
	led := time.Since(began)
	l.more(t, 500)
	t.Logf("switchover: led by the other after %v, 500 more were created after %v; errors so far: %v", led, time.Since(began), l.faults)

	leader, standby = p.settled(t)
	began = time.Now()
	p.kill(t, leader)
	p.leader(t, standby)
	led = time.Since(began)
	l.more(t, 500)
	t.Logf("death of the leader: led by the other after %v, 500 more were created after %v; errors so far: %v", led, time.Since(began), l.faults)

	l.finish(t, s)
	creates, releases := l.kept(t, s, connect(t, p.url))
	if creates > 0 || releases > 0 {
		t.Errorf("%d acknowledged creates and %d releases are lost", creates, releases)
	}
	recounted(t, s)
	c, r, worked := l.sizes()
	t.Logf("%d creates and %d releases were acknowledged, %d were worked; errors: %v", c, r, worked, l.faults)
	l.close(t)
}
