package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// blame says whose matter an error of PostgreSQL is. Callers' input is checked before it comes here, so hardly anything is
// a caller's: what is wrong with a database must not be told to callers as their fault.
type blame string

const (
	// blameCaller: the transaction that the caller gave is not usable.
	blameCaller blame = "caller"
	// blamePassing: passes by itself; nothing has happened, repeat it.
	blamePassing blame = "passing"
	// blameOperator: passes when the operator does what the advice says. Callers are told no more than that.
	blameOperator blame = "operator"
	// blameDefect: pgqueue has sent what it must not send.
	blameDefect blame = "defect"
	// blameUnknown: it may have happened or not.
	blameUnknown blame = "unknown"
)

// fault is what one SQLSTATE means.
type fault struct {
	blame blame
	// again: the call itself tries again, as it may be over in a moment.
	again bool
	// advice says what to do, to the operator or to the caller whose transaction it is.
	advice string
}

// kinds of errors by blame: REST and Connect have their statuses by kind.
var blameKinds = map[blame]queue.Kind{
	blameCaller: queue.KindConflict, blamePassing: queue.KindUnavailable, blameOperator: queue.KindUnavailable,
	blameDefect: queue.KindInternal, blameUnknown: queue.KindIndeterminate,
}

// Advice that several codes share.
const (
	adviceSchema   = "the schema is not there or not of this version; run: pgqueue migrate up"
	adviceRole     = "the database does not let this role in; correct user and password in the URL or the file that it names"
	adviceEncoding = "the database's encoding cannot hold this text; move pgqueue to a database with encoding UTF8"
	advicePooler   = "the URL leads through a transaction pooler; say so: --pooler (postgres.WithPooler), with --listen-url for LISTEN"
	adviceSpace    = "the database has no room; give it disk space, memory or higher limits"
	adviceTrigger  = "a trigger or function that is not pgqueue's refuses this; look at the triggers of pgqueue's tables"
	adviceDisk     = "PostgreSQL cannot read or write its files; look at its log"
)

// faults are all SQLSTATEs: by the five characters where a code differs from its class, else by the class's two. A test
// holds it to PostgreSQL's list.
var faults = map[string]fault{
	"00":    {blame: blameDefect}, // no errors
	"01":    {blame: blameDefect},
	"02":    {blame: blameDefect},
	"03":    {blame: blameDefect},
	"08":    {blame: blamePassing},                           // connection exceptions
	"08004": {blame: blameOperator, advice: adviceRole},      // rejected
	"08P01": {blame: blamePassing},                           // a pooler sends it for all that it cannot do just now; see Open
	"09":    {blame: blameOperator, advice: adviceTrigger},   // triggered action
	"0A":    {blame: blamePassing, again: true},              // a plan that was made before a migration
	"0B":    {blame: blameDefect},                            // transaction initiation
	"0F":    {blame: blameDefect},                            // locators
	"0L":    {blame: blameOperator, advice: adviceRights},    // grantor
	"0P":    {blame: blameOperator, advice: adviceRole},      // role specification
	"0Z":    {blame: blameDefect},                            // diagnostics
	"10":    {blame: blameDefect},                            // XQuery
	"20":    {blame: blameDefect},                            // case not found
	"21":    {blame: blameDefect},                            // cardinality
	"22":    {blame: blameDefect},                            // data: the domain has checked all input
	"22021": {blame: blameOperator, advice: adviceEncoding},  // character not in repertoire
	"22P05": {blame: blameOperator, advice: adviceEncoding},  // untranslatable character
	"23":    {blame: blameDefect},                            // integrity constraints
	"24":    {blame: blameDefect},                            // cursor state
	"25":    {blame: blameDefect},                            // transaction state
	"25006": {blame: blamePassing},                           // read-only: a standby, or a primary that is being switched
	"25P02": {blame: blameCaller, advice: adviceAborted},     // aborted transaction
	"25P03": {blame: blamePassing, again: true},              // idle in transaction for too long
	"25P04": {blame: blamePassing, again: true},              // transaction timeout
	"26":    {blame: blameOperator, advice: advicePooler},    // no such prepared statement
	"27":    {blame: blameOperator, advice: adviceTrigger},   // triggered data change
	"28":    {blame: blameOperator, advice: adviceRole},      // authorization
	"2B":    {blame: blameOperator, advice: adviceRights},    // dependent privileges
	"2D":    {blame: blameDefect},                            // transaction termination
	"2F":    {blame: blameOperator, advice: adviceTrigger},   // SQL routine
	"34":    {blame: blameDefect},                            // cursor name
	"38":    {blame: blameOperator, advice: adviceTrigger},   // external routine
	"39":    {blame: blameOperator, advice: adviceTrigger},   // external routine invocation
	"3B":    {blame: blameDefect},                            // savepoint
	"3D":    {blame: blameOperator, advice: adviceDatabase},  // catalog name
	"3F":    {blame: blameOperator, advice: adviceSchema},    // schema name
	"40":    {blame: blamePassing},                           // rollback
	"40001": {blame: blamePassing, again: true},              // serialization failure
	"40003": {blame: blameUnknown},                           // statement completion unknown
	"40P01": {blame: blamePassing, again: true},              // deadlock
	"42":    {blame: blameDefect},                            // syntax or access rule
	"42501": {blame: blameOperator, advice: adviceRights},    // insufficient privilege
	"42703": {blame: blameOperator, advice: adviceSchema},    // undefined column
	"42883": {blame: blameOperator, advice: adviceSchema},    // undefined function
	"42P01": {blame: blameOperator, advice: adviceSchema},    // undefined table
	"42P05": {blame: blameOperator, advice: advicePooler},    // duplicate prepared statement
	"44":    {blame: blameOperator, advice: adviceTrigger},   // check option
	"53":    {blame: blameOperator, advice: adviceSpace},     // insufficient resources
	"53300": {blame: blamePassing, again: true},              // too many connections
	"54":    {blame: blameOperator, advice: adviceLimits},    // program limits: input is far below them
	"55":    {blame: blamePassing},                           // object not in prerequisite state
	"55P02": {blame: blameOperator, advice: adviceParameter}, // cannot change a run-time parameter
	"55P03": {blame: blamePassing, again: true},              // lock not available
	"57":    {blame: blamePassing},                           // operator intervention
	"57014": {blame: blamePassing},                           // cancelled: by a timeout of the role, or by an operator
	"57P01": {blame: blamePassing, again: true},              // administrator's shutdown
	"57P02": {blame: blamePassing, again: true},              // crash shutdown
	"57P03": {blame: blamePassing, again: true},              // cannot connect now: starting, stopping
	"57P04": {blame: blameOperator, advice: adviceDatabase},  // database dropped
	"57P05": {blame: blamePassing, again: true},              // idle for too long
	"58":    {blame: blameOperator, advice: adviceDisk},      // system errors
	"72":    {blame: blamePassing, again: true},              // snapshot too old, up to PostgreSQL 16
	"F0":    {blame: blameOperator, advice: adviceParameter}, // configuration file
	"HV":    {blame: blameOperator, advice: adviceTrigger},   // foreign data wrappers: pgqueue has none
	"P0":    {blame: blameOperator, advice: adviceTrigger},   // PL/pgSQL: pgqueue has none
	"XX":    {blame: blameDefect},                            // internal
	"XX001": {blame: blameOperator, advice: adviceCorrupted}, // data corrupted
	"XX002": {blame: blameOperator, advice: adviceCorrupted}, // index corrupted
}

// More advice, of one code each.
const (
	adviceAborted   = "PostgreSQL has aborted this transaction; roll it back and repeat all of it"
	adviceRights    = "the database role lacks a privilege; see docs/operations.md, roles"
	adviceDatabase  = "the database is not there; create it, or correct the URL"
	adviceLimits    = "PostgreSQL has met a limit of its own, as that of transaction ids; look at its log"
	adviceParameter = "PostgreSQL refuses a setting; look at the settings of role and database: pgqueue doctor"
	adviceCorrupted = "PostgreSQL says that data are corrupted; restore the database"
)

// adviceError is an error with what the operator is to do. It is for logs: causes do not travel to callers over the wire.
type adviceError struct {
	advice string
	err    error
}

func (e *adviceError) Error() string { return e.advice + ": " + e.err.Error() }
func (e *adviceError) Unwrap() error { return e.err }

// classifySQLState is the row of the table for code. Codes of another server are unknown to it: defects, so that they are logged.
func classifySQLState(code string) fault {
	if f, ok := faults[code]; ok {
		return f
	}
	if len(code) == 5 {
		if f, ok := faults[code[:2]]; ok {
			return f
		}
	}
	return fault{blame: blameDefect}
}

// serverError is what pg is to a caller of op.
func serverError(op string, pg *pgconn.PgError, err error) *queue.Error {
	f := classifySQLState(pg.Code)
	e := &queue.Error{Op: op, Kind: blameKinds[f.blame], Err: err}
	switch f.blame {
	case blameOperator:
		e.Msg, e.Err = "the database refuses this program's work; the program's log says why", &adviceError{f.advice, err}
	case blameCaller:
		e.Msg = f.advice
	case blamePassing, blameDefect, blameUnknown: // their kinds say it
	}
	return e
}

// makeOpenError is what err is to a program that opens a store. It acts for the operator: a role that is not let in, or lacks a
// privilege, is KindDenied with the advice, which callers of an open Store do not get.
func makeOpenError(op string, err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return translateError(op, err)
	}
	if advice := classifySQLState(pg.Code).advice; advice == adviceRole || advice == adviceRights {
		return &queue.Error{Op: op, Kind: queue.KindDenied, Msg: advice, Err: err}
	}
	return translateError(op, err)
}

// WaitHelps says whether a program that gets err when it starts should wait for the database: for one that is starting, or
// cannot be reached yet. It should not for one that has answered what only an operator can mend: no such role or database,
// or a pooler that was taken for PostgreSQL.
func WaitHelps(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return classifySQLState(pg.Code).blame == blamePassing
	}
	if e, ok := errors.AsType[*queue.Error](err); ok && e.Err == nil {
		return false
	}
	k := queue.KindOf(err)
	return (k == queue.KindUnavailable || k == queue.KindDeadline) && !errors.Is(err, errForeignEncoding) && !errors.Is(err, errNeedsPooler)
}
