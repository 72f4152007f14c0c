//go:build !linux

package program

// Init returns at once, because only Linux containers need the work of process 1.
func Init() (code int, done bool) { return 0, false }

func reportListening() {}
