package cmdutil

import (
	"fmt"
)

// Exit ends the program with a code, after the command has written its own message.
type Exit struct{ Code int }

// Error names the code. The program prints no Exit.
func (e *Exit) Error() string { return fmt.Sprintf("exit code %d", e.Code) }
