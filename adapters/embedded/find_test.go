//go:build unix

package embedded

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// writeProgram writes a program that can run at once. A process that another test forks meanwhile could keep the file
// open for writing, and the kernel runs no such file.
func writeProgram(t *testing.T, name string, text []byte) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(name, text, 0o755); err != nil {
		t.Fatal(err)
	}
}

// fakeServer creates a folder with programs that only print a version.
func fakeServer(t *testing.T, dir, version string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgres", "initdb"} {
		script := fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s'\n", name, version)
		writeProgram(t, filepath.Join(dir, name), []byte(script))
	}
	return dir
}

func testFolder(t *testing.T) *folder {
	t.Helper()
	dir := openDir(t)
	return &folder{path: dir, account: currentAccount()}
}

func TestBinariesAreFoundInOrder(t *testing.T) {
	t.Parallel()
	base := openDir(t)
	at := func(parts ...string) string { return filepath.Join(append([]string{base}, parts...)...) }
	inPath := fakeServer(t, at("path"), "15.4")
	fakeServer(t, at("debian", "9.6", "bin"), "9.6.1")
	fakeServer(t, at("debian", "14", "bin"), "14.9")
	fakeServer(t, at("debian", "18", "bin"), "18beta1")
	configured := fakeServer(t, at("configured"), "17.1")
	if err := os.Mkdir(at("tools"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeProgram(t, at("tools", "pg_config"), []byte("#!/bin/sh\necho "+configured+"\n"))
	fetched := fakeServer(t, at("fetched", "16.2.0", "bin"), "16.2")
	all := places{path: "relative:" + inPath + ":" + at("tools"), globs: []string{at("debian", "*", "bin")}, fetched: at("fetched")}
	want := []string{inPath, configured, at("debian", "18", "bin"), at("debian", "14", "bin"), at("debian", "9.6", "bin"), fetched}
	if got := slices.Collect(all.folders(t.Context())); !slices.Equal(got, want) {
		t.Errorf("found %q\nwant  %q", got, want)
	}

	f := testFolder(t)
	find := func(p places, major int) (install, error) {
		c := config{places: p}
		return c.findInstall(t.Context(), f, major)
	}
	for _, tt := range []struct {
		name   string
		places places
		major  int // of the data folder
		want   install
	}{
		{"PATH first", all, 0, install{inPath, 15}},
		{"the one that fits the data", all, 14, install{at("debian", "14", "bin"), 14}},
		{"pg_config next", places{path: at("tools")}, 0, install{configured, 17}},
		{"the newest of a usual folder", places{globs: all.globs}, 0, install{at("debian", "18", "bin"), 18}},
		{"an earlier fetch last", places{fetched: all.fetched}, 0, install{fetched, 16}},
	} {
		if got, err := find(tt.places, tt.major); err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
	}
	if _, err := find(all, 13); !errors.Is(err, ErrMajorVersion) || !strings.Contains(err.Error(), "18 in "+at("debian", "18", "bin")) {
		t.Errorf("data of a version that is not there: %v", err)
	}
	if _, err := find(places{globs: []string{at("debian", "9*", "bin")}}, 0); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "is PostgreSQL 9") {
		t.Errorf("only one that is too old: %v", err)
	}
}

func TestNewestFirst(t *testing.T) {
	t.Parallel()
	got := []string{"/o/postgresql@9/bin", "/o/18.3.0/bin", "/p2/postgresql/bin", "/o/postgresql@16/bin", "/o/18.10.0/bin"}
	want := []string{"/p2/postgresql/bin", "/o/18.10.0/bin", "/o/18.3.0/bin", "/o/postgresql@16/bin", "/o/postgresql@9/bin"}
	if newestFirst(got); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestWithoutBinariesItSaysWhatToDo(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	nowhere := searchIn(places{path: "", globs: []string{filepath.Join(dir, "*", "bin")}, fetched: filepath.Join(dir, "fetched")})
	_, err := Start(t.Context(), WithDataDir(filepath.Join(dir, "pg")), nowhere, WithFetcher(nil))
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "apt install postgresql") || strings.Contains(err.Error(), "\n") {
		t.Errorf("nothing found: %v", err)
	}
	down := errors.New("no route\nto host")
	_, err = Start(t.Context(), WithDataDir(filepath.Join(dir, "pg")), nowhere,
		WithFetcher(func(context.Context, int, string) (string, error) { return "", down }))
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "no route to host") || !strings.Contains(err.Error(), "apt install postgresql") {
		t.Errorf("nothing found or fetched: %v", err)
	}
	_, err = Start(t.Context(), WithDataDir(filepath.Join(dir, "pg")), WithBinDir(dir))
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder without binaries: %v", err)
	}
	_, err = Start(t.Context(), WithDataDir(filepath.Join(dir, "pg")), WithBinDir(fakeServer(t, filepath.Join(dir, "old"), "13.2")))
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "14 or newer") {
		t.Errorf("binaries that are too old: %v", err)
	}
}

// binarySource serves an archive in the layout of the library's own source.
func binarySource(t *testing.T, txz []byte, requests *atomic.Int32) *httptest.Server {
	t.Helper()
	var jar bytes.Buffer
	z := zip.NewWriter(&jar)
	w, err := z.Create("postgres-test.txz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(txz); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Connection", "close")
		switch {
		case strings.HasSuffix(r.URL.Path, ".jar"):
			_, _ = w.Write(jar.Bytes())
		case strings.HasSuffix(r.URL.Path, ".sha256"):
			_, _ = fmt.Fprintf(w, "%x", sha256.Sum256(jar.Bytes()))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

// TestBinariesAreFetchedOnce also tests the assumptions about the library that make download stop after unpacking.
func TestBinariesAreFetchedOnce(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // the library leaves an empty file there
	txz, err := os.ReadFile(filepath.Join("testdata", "binaries.txz"))
	if err != nil {
		t.Fatal(err)
	}
	var requests atomic.Int32
	srv := binarySource(t, txz, &requests)
	dir := filepath.Join(t.TempDir(), "binaries")
	c, err := newConfig([]Option{
		searchIn(places{fetched: dir}),
		WithFetcher(func(ctx context.Context, major int, dir string) (string, error) {
			return fetchFrom(ctx, major, dir, srv.URL)
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	f := testFolder(t)
	for _, want := range []int{0, 18, 0} {
		got, err := c.findInstall(t.Context(), f, want)
		if err != nil || got.major != 18 || !strings.HasPrefix(got.dir, dir) {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests, want those for one archive and its checksum", n)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("it left %v, %v", entries, err)
	}
}

// TestAFetchedServerRuns lets a machine without PostgreSQL download and run a complete server.
func TestAFetchedServerRuns(t *testing.T) {
	dirs := filepath.SplitList(os.Getenv("PGQUEUE_TEST_BINDIRS"))
	if len(dirs) == 0 {
		t.Skip("in the long form, which has binaries to serve: make test-full")
	}
	t.Setenv("TMPDIR", openDir(t))
	tar := exec.Command("tar", "-C", filepath.Dir(dirs[0]), "-cJf", "-", "bin", "lib", "share")
	tar.Env = append(os.Environ(), "XZ_OPT=-0")
	txz, err := tar.Output()
	if err != nil {
		t.Fatal(err)
	}
	var requests atomic.Int32
	srv := binarySource(t, txz, &requests)
	dir := openDir(t)
	for range 2 {
		s, err := Start(t.Context(), WithDataDir(filepath.Join(dir, "pg")), searchIn(places{fetched: filepath.Join(dir, "binaries")}),
			WithFetcher(func(ctx context.Context, major int, dir string) (string, error) {
				return fetchFrom(ctx, major, dir, srv.URL)
			}))
		if err != nil {
			t.Fatal(err)
		}
		if got := query(t, s.DSN(), "SELECT 1"); got != "1" || !strings.HasPrefix(s.BinDir(), dir) {
			t.Errorf("%q from %s", got, s.BinDir())
		}
		stop(t, s)
	}
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests, want those for one archive and its checksum", n)
	}
}

func TestAFetchThatFailsLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	dir := openDir(t)
	if _, err := fetchFrom(t.Context(), 16, dir, gone.URL); err == nil {
		t.Error("a fetch from nowhere went well")
	}
	if _, err := fetchFrom(t.Context(), 13, dir, gone.URL); err == nil || !strings.Contains(err.Error(), "PostgreSQL 13") {
		t.Errorf("an unknown version: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
}
