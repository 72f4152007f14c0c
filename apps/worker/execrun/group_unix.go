//go:build unix

package execrun

import (
	"os"
	"os/exec"
	"syscall"
)

// group gives cmd a process group of its own, which the end of its context sends SIGTERM. os/exec kills the process
// after WaitDelay; killGroup the rest of the group.
func group(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(cmd.SysProcAttr)
	cmd.Cancel = func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
			return os.ErrProcessDone
		}
		return nil
	}
}

func killGroup(cmd *exec.Cmd) {
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // nobody left is fine
	}
}
