package embedded

import (
	"errors"
	"strings"
)

// Errors that Start wraps; test for them with errors.Is. The text of the
// returned error is one line that says what to do.
var (
	// ErrNotFound: there are no PostgreSQL server binaries that can be used,
	// and none could be fetched.
	ErrNotFound = errors.New("no usable PostgreSQL found")

	// ErrInUse: another live program, or a PostgreSQL started by hand, holds
	// the data folder.
	ErrInUse = errors.New("data folder in use")

	// ErrMajorVersion: the data folder was made by a major version of
	// PostgreSQL other than the ones found.
	ErrMajorVersion = errors.New("data folder of another major version")

	// ErrPortTaken: the port asked for with WithPort is not free.
	ErrPortTaken = errors.New("port taken")

	// ErrDataDir: the folder cannot serve as a data folder, because of what
	// is in it, whose it is, or who may enter it.
	ErrDataDir = errors.New("unusable data folder")

	// ErrUnsupported: the operating system is not one this package runs on.
	ErrUnsupported = errors.New("not supported on this operating system")
)

// oneLine folds text into a single line of bounded length, so that what a
// command printed can be part of an error.
func oneLine(text string) string {
	const limit = 400
	line := strings.Join(strings.Fields(text), " ")
	if len(line) > limit {
		line = strings.ToValidUTF8(line[:limit], "") + "…"
	}
	return line
}
