// Command pgqueue-worker works the tasks of queues by running a command or calling an URL for each.
package main

import (
	"os"
	_ "time/tzdata" // where the system has no time zones, as in an image from scratch

	"github.com/pgqueue/pgqueue/apps/worker/run"
)

// version is set by the build.
var version = "dev"

func main() { os.Exit(run.Main(version, os.Args[1:], os.Stdout, os.Stderr)) }
