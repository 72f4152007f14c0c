//go:build unix && !linux

package execrun

import "syscall"

// endWithParent does nothing: there is no such means here.
func endWithParent(*syscall.SysProcAttr) {}
