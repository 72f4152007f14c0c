//go:build unix && !linux

package execrun

import "syscall"

// endWithParent does nothing, because this system has no means for it.
func endWithParent(*syscall.SysProcAttr) {}
