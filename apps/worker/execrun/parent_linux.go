package execrun

import "syscall"

// endWithParent has the kernel kill the command when this process is gone, by SIGKILL or for want of memory: else it
// would run on beside the task's next attempt. It reaches the command alone, not what that has started. The kernel
// counts the thread that started the command as its parent. Go ends a thread only with a goroutine that was locked to
// it, and nothing here locks one.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
