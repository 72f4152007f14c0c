package admin

import (
	"context"
	"io"
	"strconv"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/domain/access"
)

// The operations of commands that change a database without a service. They stand in the audit beside those of the service.
const (
	opRepair       = "repair_contradictions"
	opAfterRestore = "after_restore"
	opCreateCell   = "create_cell"
	opPlace        = "place_namespace"
	opMoveHome     = "move_home"
)

// recordCommand enters the change of a command into the audit of the database, as one of its owner.
func recordCommand(ctx context.Context, log access.AuditLog, stderr io.Writer, e access.AuditEntry, err error) {
	recorder := cmdutil.NewAuditRecorder(log, stderr)
	defer recorder.Close(ctx)
	recorder.Record(access.WithCaller(access.With(ctx, access.Owner()), access.Caller{Via: access.ViaCLI}), e, err)
}

// changeOfCell returns the entry of a change of a cell. The connection string is a secret, so the entry has the number alone.
func changeOfCell(op string, cell int) access.AuditEntry {
	return access.AuditEntry{Operation: op, Changes: []access.AuditChange{{Field: "cell", New: strconv.Itoa(cell)}}}
}
