// Command modules keeps the modules of the workspace consistent, because the go command handles only one module at a
// time.
//
//	modules sync    write the common values into every go.mod, then tidy each
//	modules check   change nothing; list every difference
//	modules release publish to a temporary module proxy and use the modules from outside
//	modules list    print the folders of the modules, one a line
//
// These rules hold for all modules:
//
//   - go.work names exactly the existing modules, and its go line is the go line of each.
//   - A module requires its siblings at the version in the file VERSION and replaces them by their folders.
//   - Each third party has one version, and every go.mod is tidy.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	os.Exit(runCommand(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// runCommand executes one verb and returns the exit code: 2 for wrong usage, 1 for any other failure.
func runCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("modules", flag.ContinueOnError)
	flags.SetOutput(stderr)
	root := flags.String("root", ".", "the folder that holds go.work")

	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: modules [-root DIR] sync|check|release|list")
		flags.PrintDefaults()
	}

	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() != 1 {
		flags.Usage()
		return 2
	}

	ws, err := loadWorkspace(*root)
	if err != nil {
		fmt.Fprintln(stderr, "modules:", err)
		return 1
	}

	switch verb := flags.Arg(0); verb {
	case "sync":
		err = ws.syncWorkspace(ctx, stdout)
	case "check":
		problems := append(ws.checkWorkspace(), ws.checkTidiness(ctx)...)
		for _, problem := range problems {
			fmt.Fprintln(stderr, problem)
		}
		if len(problems) > 0 {
			err = fmt.Errorf("%d disagreements; make mods mends what a program can mend", len(problems))
		}
	case "release":
		err = ws.releaseCheck(ctx, stdout)
	case "list":
		for _, m := range ws.modules {
			fmt.Fprintln(stdout, m.dir)
		}
	default:
		fmt.Fprintf(stderr, "modules: unknown verb %q\n", verb)
		flags.Usage()
		return 2
	}

	if err != nil {
		fmt.Fprintln(stderr, "modules:", err)
		return 1
	}
	return 0
}
