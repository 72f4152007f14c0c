//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package embedded

import (
	"os"
	"syscall"
)

// isRoot asks for the effective user, as PostgreSQL does.
func isRoot() bool { return os.Geteuid() == 0 }

// sysProcAttr starts a process as the account, in a process group of its own:
// a Ctrl-C in the terminal is for this program, which then stops PostgreSQL.
func (a account) sysProcAttr(endWithParent bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a.other {
		// No further groups: root's must not pass to PostgreSQL.
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: []uint32{}}
	}
	if endWithParent {
		endAtParentsDeath(attr)
	}
	return attr
}
