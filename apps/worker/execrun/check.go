package execrun

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// shell runs the lines.
const shell = "/bin/sh"

// checkTimeout bounds a call of the shell that looks up a command.
const checkTimeout = 5 * time.Second

// Check reports errors of c before a worker takes tasks: a missing shell, working directory or program, and settings
// with which no command can run.
func (c *Command) Check() error {
	switch {
	case strings.TrimSpace(c.Line) == "":
		return queue.Invalid("exec", "must be a command, got none")
	case strings.ContainsRune(c.Line, 0):
		return queue.Invalid("exec", "must not contain a NUL byte; remove it")
	case c.KillAfter < 0:
		return queue.Invalid("kill-after", fmt.Sprintf("must be a duration above 0, got %v", c.KillAfter))
	case c.MaxOutput < 0:
		return queue.Invalid("max-output", fmt.Sprintf("must be a number of bytes above 0, got %d", c.MaxOutput))
	}

	for _, name := range c.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return queue.Invalid("env", fmt.Sprintf("must be the name of a variable, got %.64q; its value is the worker's own", name))
		}
	}

	if err := executable(shell); err != nil {
		return queue.Invalid("exec", fmt.Sprintf("must have the shell %s: %v; use an image that has one", shell, err))
	}

	if c.Dir != "" {
		if err := checkFolder(c.Dir); err != nil {
			return queue.Invalid("dir", fmt.Sprintf("must be a folder that this process may enter: %v; check its name and mode", err))
		}
	}

	return c.checkProgram()
}

// checkProgram looks up the first program of the line in the same way as the shell.
func (c *Command) checkProgram() error {
	word := firstWord(c.Line)
	if builtin(word) {
		return nil
	}
	if strings.Contains(word, "/") {
		file := word
		if !filepath.IsAbs(file) {
			file = filepath.Join(c.Dir, file)
		}
		if err := executable(file); err != nil {
			return queue.Invalid("exec", fmt.Sprintf("must begin with a program that is there: %v; check its name, --dir and its mode", err))
		}
		return nil
	}

	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, shell, "-c", `command -v -- "$1" >/dev/null`, shell, word) //nolint:gosec // a word of plain letters
	cmd.Dir, cmd.Env = c.Dir, c.environ(&queue.Task{})
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return queue.Invalid("exec", fmt.Sprintf("must begin with a program that is there, got %.64s; check its name and PATH", word))
	}
	// A shell that cannot run proves no fault of the program.
	return nil
}

// executable reports why a file cannot run.
func executable(file string) error {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("must be a file, got the folder or device %.64q; name a program", file)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("must be an executable file, got %.64q; chmod +x it", file)
	}
	return nil
}

// checkFolder reports why dir cannot be a working directory.
func checkFolder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("must be a folder, got the file %.64q; name its folder", dir)
	}
	// This needs the right to enter it.
	_, err = os.Stat(dir + "/.")
	return err
}
