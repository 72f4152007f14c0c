package cmdutil

import (
	"fmt"
)

// Exit ends the program with a code, after the command has told by itself what there was to tell.
type Exit struct{ Code int }

// Error is for whoever prints it by mistake.
func (e *Exit) Error() string { return fmt.Sprintf("exit code %d", e.Code) }
