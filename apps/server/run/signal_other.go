//go:build !unix

package run

import "os"

// debugSignal is none here: nobody can send it.
var debugSignal os.Signal = noSignal{}

type noSignal struct{}

func (noSignal) Signal()        {}
func (noSignal) String() string { return "none" }
