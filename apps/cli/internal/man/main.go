// Command man writes the manual pages of pgqueue into a folder.
package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra/doc"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/root"
)

func main() {
	if err := writePages(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func writePages(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: man FOLDER")
	}

	if err := os.MkdirAll(args[0], 0o755); err != nil {
		return err
	}

	cmd, _ := root.New(factory.New(""))
	// The pages change with the program alone.
	cmd.DisableAutoGenTag = true
	epoch := time.Unix(0, 0)

	return doc.GenManTree(cmd, &doc.GenManHeader{Title: "PGQUEUE", Section: "1", Source: "pgqueue", Manual: "pgqueue", Date: &epoch}, args[0])
}
