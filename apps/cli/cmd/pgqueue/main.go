// Command pgqueue runs a server and is a client of one.
package main

import (
	"os"
	_ "time/tzdata" // where the system has no time zones, as in an image from scratch

	"github.com/pgqueue/pgqueue/apps/cli/internal/root"
)

var version = "dev" // set by the build

func main() { os.Exit(root.Main(os.Args[1:], version)) }
