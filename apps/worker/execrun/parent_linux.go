package execrun

import "syscall"

// endWithParent makes the kernel kill the command when this process ends by SIGKILL or by lack of memory. Otherwise
// the command would run beside the next attempt of the task. This reaches the command alone, not its children. The
// kernel counts the thread that started the command as its parent. Go ends a thread only with a goroutine that is
// locked to it, and this package locks none.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
