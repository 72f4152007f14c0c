//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package embedded

import (
	"io/fs"
	"os"
	"syscall"
)

// Here Start returns ErrUnsupported before any of these is called; they are
// there so that programs which offer the embedded server still build.

const supported = false

func tryLock(*os.File) error                            { return ErrUnsupported }
func ownerOf(fs.FileInfo) (uid, gid uint32)             { return 0, 0 }
func alive(int) bool                                    { return false }
func kill(int, syscall.Signal) error                    { return ErrUnsupported }
func servesCluster(int, string) bool                    { return false }
func strayBackends(string) []int                        { return nil }
func isRoot() bool                                      { return false }
func (a account) sysProcAttr(bool) *syscall.SysProcAttr { return nil }
