// Package keyfile wraps data keys with keys from a local file, for package seal.
//
//	keys, err := keyfile.Open("/etc/app/seal.keys")
//	codec := seal.New(keys)
//
// The file has one key a line: a name, a space, and 32 bytes in base64. The first key wraps, all of them unwrap. Empty lines
// and those that begin with # do not count.
//
//	2026-11 hJ1nJkS2t…=
//	2026-05 Zm9vYmFyY…=
//
// This makes a line: echo "2026-11 $(head -c 32 /dev/urandom | base64)".
//
// Only its owner may read or write the file (mode 0600 or less), else Open refuses it. Windows has no such modes, so the
// check is left out there.
//
// To rotate, put a new line first, have all workers load it, then all producers. Remove the old line when no task is left
// that was sealed with it. A program calls [Ring.Reload] on a signal, or starts anew.
package keyfile
