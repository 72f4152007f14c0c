package cmdutil

import (
	"fmt"
	"io"

	"github.com/pgqueue/pgqueue/apps/cli/internal/output"
	"github.com/pgqueue/pgqueue/domain/access"
)

// NewAuditRecorder returns the recorder of a command that changes a database itself; the caller closes it. A fault of the audit does not
// fail the command. A line on stderr says that an entry is lost, because no log of a server has it.
func NewAuditRecorder(log access.AuditLog, stderr io.Writer) *access.AuditRecorder {
	return access.NewAuditRecorder(access.AuditSettings{Log: log, Failed: func(err error) {
		fmt.Fprintf(stderr, "pgqueue: the audit has no entry of this command: %s\n", output.Clean(err.Error()))
	}})
}
