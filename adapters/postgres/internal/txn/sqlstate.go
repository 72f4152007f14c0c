package txn

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// blame names the side that must act on an error of PostgreSQL. The domain checks the input of callers before, so callers
// cause hardly any error. A fault of the database must not appear as a fault of the caller.
type blame string

const (
	// blameCaller means that the transaction of the caller is not usable.
	blameCaller blame = "caller"
	// blamePassing means that the cause passes by itself and nothing has happened. The caller repeats the call.
	blamePassing blame = "passing"
	// blameOperator means that the cause passes after the operator follows the advice. Callers learn no more than that.
	blameOperator blame = "operator"
	// blameDefect means that pgqueue sent an invalid statement.
	blameDefect blame = "defect"
	// blameUnknown means that the effect may have happened or not.
	blameUnknown blame = "unknown"
)

// fault is the meaning of one SQLSTATE.
type fault struct {
	blame blame
	// again makes the call itself repeat the work, because the cause may end in a moment.
	again bool
	// advice is the remedy for the operator, or for the caller with the faulty transaction.
	advice string
}

// blameKinds maps a blame to the kind of the error. REST and Connect derive their status from the kind.
var blameKinds = map[blame]queue.Kind{
	blameCaller: queue.KindConflict, blamePassing: queue.KindUnavailable, blameOperator: queue.KindUnavailable,
	blameDefect: queue.KindInternal, blameUnknown: queue.KindIndeterminate,
}

// These advices serve several codes.
const (
	adviceSchema   = "the schema is not there or not of this version; run: pgqueue migrate up"
	adviceRole     = "the database does not let this role in; correct user and password in the URL or the file that it names"
	adviceEncoding = "the database's encoding cannot hold this text; move pgqueue to a database with encoding UTF8"
	advicePooler   = "the URL leads through a transaction pooler; say so: --pooler (postgres.WithPooler), with --listen-url for LISTEN"
	adviceSpace    = "the database has no room; give it disk space, memory or higher limits"
	adviceTrigger  = "a trigger or function that is not pgqueue's refuses this; look at the triggers of pgqueue's tables"
	adviceDisk     = "PostgreSQL cannot read or write its files; look at its log"
)

// faults lists all SQLSTATEs: a code with five characters where it differs from its class, and classes with two. A test
// compares the list with PostgreSQL's.
//
// The functions of pgqueue's schema raise codes of a class of their own, PQ, to the programs that call them in SQL. No statement of
// this module calls one that does, so PQ is not in the list. They have no INTO STRICT and no ASSERT, which raise codes of class P0;
// a test of package migrate holds them to that. So class P0 always comes from code that an operator has added, as a trigger.
var faults = map[string]fault{
	"00":    {blame: blameDefect}, // no errors
	"01":    {blame: blameDefect},
	"02":    {blame: blameDefect},
	"03":    {blame: blameDefect},
	"08":    {blame: blamePassing},                           // connection exceptions
	"08004": {blame: blameOperator, advice: adviceRole},      // rejected
	"08P01": {blame: blamePassing},                           // a pooler sends it for all work that it cannot do at the moment; see Open
	"09":    {blame: blameOperator, advice: adviceTrigger},   // triggered action
	"0A":    {blame: blamePassing, again: true},              // a plan from before a migration
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
	"25006": {blame: blamePassing},                           // read-only: a standby, or a primary during a switch
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
	"P0":    {blame: blameOperator, advice: adviceTrigger},   // PL/pgSQL of others: that of pgqueue raises its own codes, see below
	"XX":    {blame: blameDefect},                            // internal
	"XX001": {blame: blameOperator, advice: adviceCorrupted}, // data corrupted
	"XX002": {blame: blameOperator, advice: adviceCorrupted}, // index corrupted
}

// These advices serve one code each.
const (
	adviceAborted   = "PostgreSQL has aborted this transaction; roll it back and repeat all of it"
	adviceRights    = "the database role lacks a privilege; see docs/operations.md, roles"
	adviceDatabase  = "the database is not there; create it, or correct the URL"
	adviceLimits    = "PostgreSQL has met a limit of its own, as that of transaction ids; look at its log"
	adviceParameter = "PostgreSQL refuses a setting; look at the settings of role and database: pgqueue doctor"
	adviceCorrupted = "PostgreSQL says that data are corrupted; restore the database"
)

// adviceError is an error with its remedy for the operator. It is for logs: causes never travel to remote callers.
type adviceError struct {
	advice string
	err    error
}

func (e *adviceError) Error() string { return e.advice + ": " + e.err.Error() }
func (e *adviceError) Unwrap() error { return e.err }

// classifySQLState returns the row of the table for code. An unknown code, as of another server, is a defect, so that
// it is logged.
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

// serverError translates the error pg of PostgreSQL for the caller of op.
func serverError(op string, pg *pgconn.PgError, err error) *queue.Error {
	f := classifySQLState(pg.Code)
	e := &queue.Error{Op: op, Kind: blameKinds[f.blame], Err: err}
	switch f.blame {
	case blameOperator:
		e.Msg, e.Err = "the database refuses this program's work; the program's log says why", &adviceError{f.advice, err}
	case blameCaller:
		e.Msg = f.advice
	case blamePassing, blameDefect, blameUnknown: // their kinds suffice
	}
	return e
}

// OpenError translates err for a program that opens a store, which acts for the operator. A role that cannot log in
// or lacks a privilege gives KindDenied with the advice. Callers of an open Store never get the advice.
func OpenError(op string, err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return Translate(op, err)
	}
	if advice := classifySQLState(pg.Code).advice; advice == adviceRole || advice == adviceRights {
		return &queue.Error{Op: op, Kind: queue.KindDenied, Msg: advice, Err: err}
	}
	return Translate(op, err)
}

// WaitHelps reports whether a program that gets err at its start should wait for the database. It returns true for a
// database that is starting or unreachable. It returns false for an answer that needs the operator: a missing role or
// database, or a pooler in place of PostgreSQL.
func WaitHelps(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return classifySQLState(pg.Code).blame == blamePassing
	}
	if e, ok := errors.AsType[*queue.Error](err); ok && e.Err == nil {
		return false
	}
	k := queue.KindOf(err)
	return (k == queue.KindUnavailable || k == queue.KindDeadline) && !errors.Is(err, errForeignEncoding) && !errors.Is(err, ErrNeedsPooler)
}
