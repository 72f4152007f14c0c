package embedded

import (
	"errors"
	"strings"
)

// Start wraps these errors; test for them with errors.Is. Each returned error is one line that ends with the remedy.
var (
	// ErrNotFound: the machine has no usable PostgreSQL server binaries, and the download failed or is switched off.
	ErrNotFound = errors.New("no usable PostgreSQL found")

	// ErrInUse: another live program, or a PostgreSQL that was started by hand, uses the data folder.
	ErrInUse = errors.New("data folder in use")

	// ErrMajorVersion: the major version of the data folder differs from all PostgreSQL versions found.
	ErrMajorVersion = errors.New("data folder of another major version")

	// ErrPortTaken: the port of WithPort is not free.
	ErrPortTaken = errors.New("port taken")

	// ErrDataDir: the folder cannot serve as a data folder, because of its contents, its owner or its mode.
	ErrDataDir = errors.New("unusable data folder")

	// ErrUnsupported: the package does not run on this operating system.
	ErrUnsupported = errors.New("not supported on this operating system")
)

// oneLine joins text into one line of at most 400 bytes, so that an error can quote the output of a command.
func oneLine(text string) string {
	const limit = 400
	line := strings.Join(strings.Fields(text), " ")
	if len(line) > limit {
		line = strings.ToValidUTF8(line[:limit], "") + "…"
	}
	return line
}
