// Command modules keeps the many modules of the workspace in agreement, because the go command looks after one module
// at a time and nobody looks after the whole.
//
//	modules sync    write what must agree into every go.mod, then tidy each
//	modules check   change nothing; list what does not agree
//	modules release publish to a throw-away module proxy, and use what is there as strangers do
//	modules list    print the modules' folders, one a line
//
// What must agree: go.work names exactly the modules that exist; one go line, go.work's; siblings are required at the
// version in the file VERSION and replaced by their folders; one version of each third party; every go.mod is tidy.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
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
	ws, err := load(*root)
	if err != nil {
		fmt.Fprintln(stderr, "modules:", err)
		return 1
	}
	switch verb := flags.Arg(0); verb {
	case "sync":
		err = ws.sync(ctx, stdout)
	case "check":
		problems := append(ws.check(), ws.checkTidy(ctx)...)
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
