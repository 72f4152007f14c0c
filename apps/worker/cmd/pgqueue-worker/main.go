// Command pgqueue-worker runs a command or calls a URL for each task of its queues.
package main

import (
	"os"
	_ "time/tzdata" // for systems without time zones, such as an image from scratch

	"github.com/pgqueue/pgqueue/apps/worker/run"
)

// version is set by the build.
var version = "dev"

func main() { os.Exit(run.Main("pgqueue-worker", version, os.Args[1:], os.Stdout, os.Stderr)) }
