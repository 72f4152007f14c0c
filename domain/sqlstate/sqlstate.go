// Package sqlstate says what each error code of PostgreSQL means for pgqueue: which side must act, and whether the cause
// passes. All adapters that talk to PostgreSQL read this one table, so a code has the same kind everywhere.
//
// The package knows codes alone, no driver: each adapter gets the code from its driver.
package sqlstate

import (
	"maps"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Codes that a caller expects in a place of its own, beside what the table says of them.
const (
	CheckViolation        = "23514"
	InsufficientPrivilege = "42501"
	LockNotAvailable      = "55P03" // a wait exceeded lock_timeout
	LostStatement         = "26000" // the server has no prepared statement of that name
	ProtocolViolation     = "08P01"
	ReadOnly              = "25006" // a standby, a primary during a switch, or a transaction that says so
	UndefinedSchema       = "3F000"
	UndefinedTable        = "42P01"
	UnknownEncoding       = "22021" // bytes that are not of the encoding
)

// ConnectionClass is the class of the codes that a pooler may send in the place of the server.
const ConnectionClass = "08"

// Blame names the side that must act on an error of PostgreSQL. The domain checks the input of callers before, so callers
// cause hardly any error. A fault of the database must not appear as a fault of the caller.
type Blame string

const (
	// Caller means that the transaction of the caller is not usable.
	Caller Blame = "caller"
	// Passing means that the cause passes by itself and nothing has happened. The caller repeats the call.
	Passing Blame = "passing"
	// Operator means that the cause passes after the operator follows the advice.
	Operator Blame = "operator"
	// Defect means that pgqueue sent an invalid statement.
	Defect Blame = "defect"
	// Unknown means that the effect may have happened or not.
	Unknown Blame = "unknown"
)

// kinds maps a blame to the kind of the error. REST and Connect derive their status from the kind.
var kinds = map[Blame]queue.Kind{
	Caller: queue.KindConflict, Passing: queue.KindUnavailable, Operator: queue.KindUnavailable,
	Defect: queue.KindInternal, Unknown: queue.KindIndeterminate,
}

// Kind returns the kind of an error with this blame.
func (b Blame) Kind() queue.Kind { return kinds[b] }

// Fault is the meaning of one SQLSTATE.
type Fault struct {
	Blame Blame
	// Again makes a call that owns its transaction repeat the work, because the cause may end in a moment.
	Again bool
	// Rows means that single rows of a statement may be the cause, as by a trigger, a value, a constraint or damage. A
	// statement with fewer rows may also avoid a timeout.
	Rows bool
	// Advice is the remedy for the operator, or for the caller with the faulty transaction. It names no value of a caller.
	Advice string
}

// Table returns a copy of all rows, by code or class.
func Table() map[string]Fault { return maps.Clone(faults) }

// Classify returns the meaning of code: that of the code, or that of its class. An unknown code, as of another server, is a
// defect, so that it is logged.
func Classify(code string) Fault {
	if f, ok := faults[code]; ok {
		return f
	}
	if len(code) == 5 {
		if f, ok := faults[code[:2]]; ok {
			return f
		}
	}
	return Fault{Blame: Defect}
}

// faults lists all SQLSTATEs: a code with five characters where it differs from its class, and classes with two. A test
// compares the list with PostgreSQL's.
//
// The functions of pgqueue's schema raise codes of a class of their own, PQ, to the programs that call them in SQL. Package sqltx
// reads those; no statement of package postgres calls such a function, so PQ is not in the list.
// They have no INTO STRICT and no ASSERT, which raise codes of class P0; a test of package migrate holds them to that. So class
// P0 always comes from code that an operator has added, as a trigger.
var faults = map[string]Fault{
	"00":    {Blame: Defect}, // no errors
	"01":    {Blame: Defect},
	"02":    {Blame: Defect},
	"03":    {Blame: Defect},
	"08":    {Blame: Passing},                                       // connection exceptions
	"08004": {Blame: Operator, Advice: AdviceRole},                  // rejected
	"08P01": {Blame: Passing},                                       // a pooler sends it for all work that it cannot do at the moment; see postgres.Open
	"09":    {Blame: Operator, Advice: adviceTrigger, Rows: true},   // triggered action
	"0A":    {Blame: Passing, Again: true},                          // a plan from before a migration
	"0B":    {Blame: Defect},                                        // transaction initiation
	"0F":    {Blame: Defect},                                        // locators
	"0L":    {Blame: Operator, Advice: AdviceRights},                // grantor
	"0P":    {Blame: Operator, Advice: AdviceRole},                  // role specification
	"0Z":    {Blame: Defect},                                        // diagnostics
	"10":    {Blame: Defect},                                        // XQuery
	"20":    {Blame: Defect},                                        // case not found
	"21":    {Blame: Defect, Rows: true},                            // cardinality
	"22":    {Blame: Defect, Rows: true},                            // data: the domain has checked all input
	"22021": {Blame: Operator, Advice: adviceEncoding, Rows: true},  // character not in repertoire
	"22P05": {Blame: Operator, Advice: adviceEncoding, Rows: true},  // untranslatable character
	"23":    {Blame: Defect, Rows: true},                            // integrity constraints
	"24":    {Blame: Defect},                                        // cursor state
	"25":    {Blame: Defect},                                        // transaction state
	"25006": {Blame: Passing},                                       // read-only: a standby, or a primary during a switch
	"25P02": {Blame: Caller, Advice: adviceAborted},                 // aborted transaction
	"25P03": {Blame: Passing, Again: true},                          // idle in transaction for too long
	"25P04": {Blame: Passing, Again: true},                          // transaction timeout
	"26":    {Blame: Operator, Advice: AdvicePooler},                // no such prepared statement
	"27":    {Blame: Operator, Advice: adviceTrigger, Rows: true},   // triggered data change
	"28":    {Blame: Operator, Advice: AdviceRole},                  // authorization
	"2B":    {Blame: Operator, Advice: AdviceRights},                // dependent privileges
	"2D":    {Blame: Defect},                                        // transaction termination
	"2F":    {Blame: Operator, Advice: adviceTrigger, Rows: true},   // SQL routine
	"34":    {Blame: Defect},                                        // cursor name
	"38":    {Blame: Operator, Advice: adviceTrigger, Rows: true},   // external routine
	"39":    {Blame: Operator, Advice: adviceTrigger, Rows: true},   // external routine invocation
	"3B":    {Blame: Defect},                                        // savepoint
	"3D":    {Blame: Operator, Advice: adviceDatabase},              // catalog name
	"3F":    {Blame: Operator, Advice: adviceSchema},                // schema name
	"40":    {Blame: Passing},                                       // rollback
	"40001": {Blame: Passing, Again: true},                          // serialization failure
	"40003": {Blame: Unknown},                                       // statement completion unknown
	"40P01": {Blame: Passing, Again: true},                          // deadlock
	"42":    {Blame: Defect},                                        // syntax or access rule
	"42501": {Blame: Operator, Advice: AdviceRights},                // insufficient privilege
	"42703": {Blame: Operator, Advice: adviceSchema},                // undefined column
	"42883": {Blame: Operator, Advice: adviceSchema},                // undefined function
	"42P01": {Blame: Operator, Advice: adviceSchema},                // undefined table
	"42P05": {Blame: Operator, Advice: AdvicePooler},                // duplicate prepared statement
	"44":    {Blame: Operator, Advice: adviceTrigger, Rows: true},   // check option
	"53":    {Blame: Operator, Advice: adviceSpace},                 // insufficient resources
	"53300": {Blame: Passing, Again: true},                          // too many connections
	"54":    {Blame: Operator, Advice: adviceLimits, Rows: true},    // program limits: input is far below them
	"55":    {Blame: Passing},                                       // object not in prerequisite state
	"55P02": {Blame: Operator, Advice: adviceParameter},             // cannot change a run-time parameter
	"55P03": {Blame: Passing, Again: true},                          // lock not available
	"57":    {Blame: Passing},                                       // operator intervention
	"57014": {Blame: Passing, Rows: true},                           // cancelled: by a timeout of the role, or by an operator
	"57P01": {Blame: Passing, Again: true},                          // administrator's shutdown
	"57P02": {Blame: Passing, Again: true},                          // crash shutdown
	"57P03": {Blame: Passing, Again: true},                          // cannot connect now: starting, stopping
	"57P04": {Blame: Operator, Advice: adviceDatabase},              // database dropped
	"57P05": {Blame: Passing, Again: true},                          // idle for too long
	"58":    {Blame: Operator, Advice: adviceDisk},                  // system errors
	"72":    {Blame: Passing, Again: true},                          // snapshot too old, up to PostgreSQL 16
	"F0":    {Blame: Operator, Advice: adviceParameter},             // configuration file
	"HV":    {Blame: Operator, Advice: adviceTrigger},               // foreign data wrappers: pgqueue has none
	"P0":    {Blame: Operator, Advice: adviceTrigger, Rows: true},   // PL/pgSQL of others: that of pgqueue raises its own codes, see below
	"XX":    {Blame: Defect, Rows: true},                            // internal
	"XX001": {Blame: Operator, Advice: adviceCorrupted, Rows: true}, // data corrupted
	"XX002": {Blame: Operator, Advice: adviceCorrupted, Rows: true}, // index corrupted
}

// These advices of the table also serve programs that add to them.
const (
	AdviceRole   = "the database does not let this role in; correct user and password in the URL or the file that it names"
	AdviceRights = "the database role lacks a privilege; see docs/operations.md, roles"
	AdvicePooler = "the URL leads through a transaction pooler; say so: --pooler (postgres.WithPooler), with --listen-url for LISTEN"
)

// These advices serve several codes.
const (
	adviceSchema   = "the schema is not there or not of this version; run: pgqueue migrate up"
	adviceEncoding = "the database's encoding cannot hold this text; move pgqueue to a database with encoding UTF8"
	adviceSpace    = "the database has no room; give it disk space, memory or higher limits"
	adviceTrigger  = "a trigger or function that is not pgqueue's refuses this; look at the triggers of pgqueue's tables"
	adviceDisk     = "PostgreSQL cannot read or write its files; look at its log"
)

// These advices serve one code each, or one class.
const (
	adviceAborted   = "PostgreSQL has aborted this transaction; roll it back and repeat all of it"
	adviceDatabase  = "the database is not there; create it, or correct the URL"
	adviceLimits    = "PostgreSQL has met a limit of its own, as that of transaction ids; look at its log"
	adviceParameter = "PostgreSQL refuses a setting; look at the settings of role and database: pgqueue doctor"
	adviceCorrupted = "PostgreSQL says that data are corrupted; restore the database"
)
