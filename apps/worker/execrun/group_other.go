//go:build !unix

package execrun

import "os/exec"

// group does nothing: without process groups os/exec kills the process at the end of the context.
func setProcessGroup(*exec.Cmd) {}

func killGroup(*exec.Cmd) {}
