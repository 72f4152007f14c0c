//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package embedded

import (
	"io/fs"
	"os"
	"syscall"
)

// Start returns ErrUnsupported before it calls any of these functions. They exist so that programs with an embedded
// server still build.

const supported = false

func tryLockFile(*os.File) error                        { return ErrUnsupported }
func ownerOf(fs.FileInfo) (uid, gid uint32)             { return 0, 0 }
func processExists(int) bool                            { return false }
func signalProcess(int, syscall.Signal) error           { return ErrUnsupported }
func servesCluster(int, string) bool                    { return false }
func strayBackends(string) []int                        { return nil }
func runsAsRoot() bool                                  { return false }
func (a account) sysProcAttr(bool) *syscall.SysProcAttr { return nil }
