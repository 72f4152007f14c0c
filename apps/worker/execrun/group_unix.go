//go:build unix

package execrun

import (
	"os"
	"os/exec"
	"syscall"
)

// setProcessGroup starts cmd in its own process group. The end of its context sends SIGTERM to the group. After WaitDelay
// os/exec kills the process, and killGroup the rest of the group.
func setProcessGroup(cmd *exec.Cmd) {
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
		// An empty group is fine.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
}
