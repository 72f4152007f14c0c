package feed

import (
	"embed"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
)

//go:embed feed.sql
var sqlFiles embed.FS

// Statements holds the statements of the package.
var Statements = sqltext.Parse(sqlFiles, "feed.sql", nil)

var (
	listEvents      = Statements.Named("event.list")
	readSnapshotNow = Statements.Named("event.now")
	findOldestEvent = Statements.Named("event.oldest")
	keepSnapshots   = Statements.Named("event.snapshot.keep")
	readSnapshots   = Statements.Named("event.snapshot.read")
	sendWakeUps     = Statements.Named("notify.send")
)

// arg returns a named parameter with its value.
func arg(name string, value any) sqltext.Arg { return sqltext.Arg{Name: name, Value: value} }
