//go:build !linux

package program

// Init does the duties of the first process of a container, which there are none of here.
func Init() (code int, done bool) { return 0, false }

func reportListening() {}
