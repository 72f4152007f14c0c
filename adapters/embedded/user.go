package embedded

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// account is the user that runs PostgreSQL.
type account struct {
	name     string
	uid, gid uint32
	other    bool // differs from the user of this process, which then is root
}

// chooseAccount returns the user that runs PostgreSQL for the data folder path. That is the current user, unless it
// is root. For root it is the owner of the folder or of its nearest existing parent. Where that owner is root too, it
// is the first fallback user that exists.
func chooseAccount(path string) (account, error) {
	if !runsAsRoot() {
		return currentAccount(), nil
	}

	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
			continue
		}
		if err != nil {
			break
		}

		uid, gid := ownerOf(info)
		if uid == 0 {
			break
		}

		// initdb needs a user with a name; an existing data directory needs only a number.
		if u, err := user.LookupId(strconv.Itoa(int(uid))); err == nil {
			return account{name: u.Username, uid: uid, gid: gid, other: true}, nil
		}
		if dir == path {
			return account{name: strconv.Itoa(int(uid)), uid: uid, gid: gid, other: true}, nil
		}
		break
	}

	// Packages of PostgreSQL create the first two; the last exists on nearly every system.
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}

		uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
		// macOS gives the last fallback user the number -2, which ParseUint refuses.
		if uerr != nil || gerr != nil || uid == 0 {
			continue
		}
		return account{name: name, uid: uint32(uid), gid: uint32(gid), other: true}, nil
	}
	return account{}, errors.New("embedded: PostgreSQL refuses to run as root, and there is no unprivileged user to run it as; " +
		"start as an unprivileged user, or make one (useradd --system postgres)")
}

// currentAccount returns the effective user of this process, by name where it has one.
func currentAccount() account {
	a := account{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
	a.name = strconv.Itoa(int(a.uid))

	if u, err := user.LookupId(a.name); err == nil {
		a.name = u.Username
	}
	return a
}

// mayEnter reports whether the mode bits let the account enter a folder. It can explain a refusal but not predict
// one, since it reads nothing but the mode bits.
func (a account) mayEnter(info fs.FileInfo) bool {
	uid, gid := ownerOf(info)
	mode := info.Mode().Perm()
	switch {
	case uid == a.uid:
		return mode&0o100 != 0
	case gid == a.gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}
