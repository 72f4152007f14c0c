// Command pgqueue-server runs a pgqueue server and nothing else.
package main

import (
	"os"
	_ "time/tzdata" // for systems without time zones, such as an image from scratch

	"github.com/pgqueue/pgqueue/apps/server/run"
)

var version = "dev" // set by the build

func main() { os.Exit(run.Main(os.Args[1:], version, os.Stdout, os.Stderr)) }
