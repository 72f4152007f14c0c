// Command pgqueue runs a server, and is a client of servers.
package main

import (
	"os"
	_ "time/tzdata" // for systems without time zones, such as an image from scratch

	"github.com/pgqueue/pgqueue/apps/cli/internal/root"
)

var version = "dev" // set by the build

func main() { os.Exit(root.Main(os.Args[1:], version)) }
