package host_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/apps/e2e/bench/internal/host"
)

// burn computes until the kernel counts d of CPU time for the process.
func burn(t *testing.T, d time.Duration) {
	t.Helper()
	for end, x := host.CPU(os.Getpid())+d, 0; host.CPU(os.Getpid()) < end; {
		for range 1 << 20 {
			x ^= x<<1 + 1
		}
		if t.Context().Err() != nil {
			t.Fatal("the clock of the process stands still")
		}
	}
}

func TestCPU(t *testing.T) {
	before, family := host.CPU(os.Getpid()), host.FamilyCPU(os.Getpid())
	burn(t, 50*time.Millisecond)
	if got := host.CPU(os.Getpid()) - before; got < 50*time.Millisecond {
		t.Errorf("50 ms of work took %v", got)
	}
	if got := host.FamilyCPU(os.Getpid()) - family; got < 50*time.Millisecond {
		t.Errorf("50 ms of work took the family %v", got)
	}
}

// TestFamilyCPU counts a child while it runs and after its end, once each.
func TestFamilyCPU(t *testing.T) {
	if os.Getenv("HOST_TEST_BURN") != "" {
		burn(t, 300*time.Millisecond)
		return
	}
	before, own := host.FamilyCPU(os.Getpid()), host.CPU(os.Getpid())
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFamilyCPU$")
	child.Env = append(os.Environ(), "HOST_TEST_BURN=1")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	used := host.UsageOf(child.ProcessState)
	if used.CPU < 300*time.Millisecond || used.Peak < 1<<20 {
		t.Errorf("a child that computed for 300 ms used %+v", used)
	}
	children := host.FamilyCPU(os.Getpid()) - before - (host.CPU(os.Getpid()) - own)
	if off := children - used.CPU; off.Abs() > 50*time.Millisecond { // the kernel rounds to 10 ms several times
		t.Errorf("children used %v, the child said %v", children, used.CPU)
	}
}

func TestDescribe(t *testing.T) {
	f := host.Describe()
	if f.Cores < 1 || f.Memory < 1<<28 || f.Kernel == "" || f.Go == "" {
		t.Errorf("got %+v", f)
	}
	if now, peak := host.Memory(os.Getpid()); now < 1<<20 || peak < now {
		t.Errorf("this process holds %d bytes, at most %d", now, peak)
	}
	if now, _ := host.Memory(1 << 30); now != 0 {
		t.Errorf("no process holds %d bytes", now)
	}
}

func TestPostmaster(t *testing.T) {
	dir := t.TempDir()
	if _, err := host.Postmaster(dir); err == nil {
		t.Error("an empty folder has a postmaster")
	}
	if err := os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte("4711\n/data\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if pid, err := host.Postmaster(dir); err != nil || pid != 4711 {
		t.Errorf("got %d, %v", pid, err)
	}
}
