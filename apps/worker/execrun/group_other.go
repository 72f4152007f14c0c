//go:build !unix

package execrun

import "os/exec"

// Without process groups the end of the context kills the process, as os/exec does by itself.
func group(*exec.Cmd) {}

func killGroup(*exec.Cmd) {}
