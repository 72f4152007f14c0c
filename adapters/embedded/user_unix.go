//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package embedded

import (
	"os"
	"syscall"
)

// runsAsRoot reports whether the effective user is root, as PostgreSQL checks it.
func runsAsRoot() bool { return os.Geteuid() == 0 }

// sysProcAttr starts a process as the account, in its own process group. So Ctrl-C in the terminal reaches only this
// program, which then stops PostgreSQL.
func (a account) sysProcAttr(endWithParent bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a.other {
		// The process gets no further groups: PostgreSQL must not inherit those of root.
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: []uint32{}}
	}
	if endWithParent {
		endAtParentsDeath(attr)
	}
	return attr
}
