package access

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// The limits of the audit.
const (
	// DefaultAuditRetention is the age at which an entry is removed unless configured otherwise.
	DefaultAuditRetention = 365 * 24 * time.Hour
	// MinAuditRetention is the least age of an entry that is removed. The database holds servers to it: a stolen
	// connection string of a server cannot remove the traces of its use.
	MinAuditRetention = 30 * 24 * time.Hour
	// MaxAuditText is the largest number of bytes of a text of an entry. Longer texts are cut.
	MaxAuditText = 500
	// MaxAuditChanges is the largest number of changes of an entry. Further ones are left out.
	MaxAuditChanges = 32
	// AuditPruneStep is the largest number of entries that one PruneAudit removes.
	AuditPruneStep = 5_000
)

// AuditEntry is one row of the audit: which principal did what, by which way, and how it ended. It contains names, ids and
// numbers only, never a payload, a result, an error text or a secret.
type AuditEntry struct {
	// ID is the id of the entry. The store sets it, and At by its clock.
	ID int64
	At time.Time

	// PrincipalID is the id of the principal, as the public part of a token. For a refused credential it is what the
	// credential claims to be; "" without one.
	PrincipalID   string
	PrincipalName string
	PrincipalKind Kind
	// Issuer and Subject identify the owner of a JWT; "" for other kinds.
	Issuer  string
	Subject string

	Caller

	// Action is the right that the operation needs; "" for a request that was refused before its operation was known.
	Action queue.Action
	// Operation is the label of the operation, as "cancel_tasks" or "create_token"; "" as Action, and for a refused request
	// outside of the operations, as for the metrics.
	Operation string
	// Namespace, Queue, Ticker, Task and Token name what the operation concerns; "" and 0 where it names none. Task is set
	// for an operation on exactly one task. Token is the public part of a token, or of a session for operations on these.
	Namespace string
	Queue     string
	Ticker    string
	Task      int64
	Token     string

	// Filter is the filter of a bulk operation as text, IDs the number of ids.
	Filter string
	IDs    int
	DryRun bool

	// Changes are the settings that the operation changed, in the order of the settings; at most [MaxAuditChanges].
	Changes []AuditChange

	// Outcome is [AuditOK] or the kind of the error.
	Outcome string
	// Calls is the number of calls that the entry stands for: above 1 for equal refusals of a minute.
	Calls int
	// Matched and Moved are the numbers of tasks of the operation.
	Matched int64
	Moved   int64
}

// AuditChange is a setting before and after a change, as text. A new object has "" before, and a deleted one "" after. A payload
// shows as its number of bytes.
type AuditChange struct {
	Field string
	Old   string
	New   string
}

// AuditOK is the outcome of a call without an error.
const AuditOK = "ok"

// AuditLog is the driven port of the audit. It is append-only: no method changes an entry, and entries leave by age alone.
// All methods are safe for concurrent use, honour ctx, and fail with *queue.Error.
type AuditLog interface {
	// RecordAudit appends an entry. It ignores ID and At of e.
	RecordAudit(ctx context.Context, e AuditEntry) error
	// ListAudit returns a page of entries, the newest first.
	ListAudit(ctx context.Context, f AuditFilter) (AuditPage, error)
	// PruneAudit removes at most [AuditPruneStep] entries that are older than age, the oldest first. An age below
	// [MinAuditRetention] counts as that. It returns their number, and whether there may be more.
	PruneAudit(ctx context.Context, age time.Duration) (removed int, more bool, err error)
}

// AuditFilter selects entries. The zero value selects all.
type AuditFilter struct {
	// Since is inclusive, Until exclusive; zero for no bound.
	Since time.Time
	Until time.Time
	// Principal is the id of a principal.
	Principal string
	Action    queue.Action
	Namespace string
	// Queue is the name of a queue. Operations by ids name none.
	Queue   string
	Outcome string
	// Limit is the most entries of a page, 0 for [queue.DefaultPage].
	Limit int
	// Cursor is the Next of the page before; "" starts with the newest entry.
	Cursor string
}

// AuditPage is a page of entries. Next is the cursor of the next page; "" at the end.
type AuditPage struct {
	Entries []AuditEntry
	Next    string
}

// Normalize checks f and fills in the default limit.
func (f AuditFilter) Normalize() (AuditFilter, error) {
	if f.Limit == 0 {
		f.Limit = queue.DefaultPage
	}
	if err := queue.CheckInt("limit", f.Limit, 1, queue.MaxPage); err != nil {
		return f, err
	}
	if err := queue.CheckTime("since", f.Since); err != nil {
		return f, err
	}
	if err := queue.CheckTime("until", f.Until); err != nil {
		return f, err
	}
	if err := f.checkSubject(); err != nil {
		return f, err
	}

	if f.Namespace != "" {
		var err error
		if f.Namespace, err = queue.NamespaceName(f.Namespace); err != nil {
			return f, err
		}
	}
	if f.Queue != "" {
		var err error
		if f.Queue, err = queue.QueueName(f.Queue); err != nil {
			return f, err
		}
	}
	_, _, err := ReadAuditCursor(f.Cursor)
	return f, err
}

// checkSubject checks the principal, the action and the outcome of f.
func (f AuditFilter) checkSubject() error {
	// PostgreSQL refuses a NUL byte and invalid UTF-8 in a text, so the store never sees them.
	if !utf8.ValidString(f.Principal) || strings.Contains(f.Principal, "\x00") || len(f.Principal) > MaxAuditText {
		return queue.Invalid("principal", fmt.Sprintf("must be at most %d bytes of text, got another; copy the id from the audit", MaxAuditText))
	}
	if f.Action != "" && actionBits[f.Action] == 0 {
		return queue.Invalid("action", fmt.Sprintf("must be one of %s, got %.64q; choose one", joinNames(Actions()), f.Action))
	}
	if f.Outcome != "" && f.Outcome != AuditOK && !slices.Contains(queue.Kinds(), queue.Kind(f.Outcome)) {
		return queue.Invalid("outcome", fmt.Sprintf("must be %s or one of %s, got %.64q; choose one", AuditOK, joinNames(queue.Kinds()), f.Outcome))
	}
	return nil
}

// joinNames lists names with commas.
func joinNames[N ~string](names []N) string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = string(name)
	}
	return strings.Join(texts, ", ")
}

// AuditCursor returns the cursor behind an entry: for stores. Its time has the microseconds of the database.
func AuditCursor(at time.Time, id int64) string {
	return strconv.FormatInt(at.UnixMicro(), 36) + "." + strconv.FormatInt(id, 36)
}

// ReadAuditCursor returns the time and the id of a cursor; zero for "".
func ReadAuditCursor(cursor string) (at time.Time, id int64, err error) {
	if cursor == "" {
		return time.Time{}, 0, nil
	}

	micros, rest, _ := strings.Cut(cursor, ".")
	us, errTime := strconv.ParseInt(micros, 36, 64)
	id, errID := strconv.ParseInt(rest, 36, 64)
	at = time.UnixMicro(us).UTC()
	if errTime != nil || errID != nil || id <= 0 || at.Year() < 1 || at.Year() > 9999 || AuditCursor(at, id) != cursor {
		return time.Time{}, 0, queue.Invalid("cursor", "must be the cursor of a page of the audit; start again without it")
	}
	return at, id, nil
}

// CheckAuditRetention returns an error unless d is 0, which keeps all entries, or at least [MinAuditRetention].
func CheckAuditRetention(d time.Duration) error {
	if d == 0 || d >= MinAuditRetention {
		return nil
	}
	return queue.Invalid("audit_retention", fmt.Sprintf("must be 0 (forever) or at least %dd, got %v; choose a longer time", int(MinAuditRetention.Hours()/24), d))
}

// Clean returns e with texts that a store can keep: each is valid UTF-8 without control characters, at most [MaxAuditText]
// bytes long, and shows of a token its public part only.
func (e AuditEntry) Clean() AuditEntry {
	for _, text := range []*string{
		&e.PrincipalID, &e.PrincipalName, &e.Issuer, &e.Subject, &e.RequestID, &e.Remote, &e.Reason, &e.Operation, &e.Namespace, &e.Queue,
		&e.Ticker, &e.Token, &e.Filter,
	} {
		*text = cleanText(*text)
	}
	e.Calls = max(e.Calls, 1)

	e.Changes = slices.Clone(e.Changes[:min(len(e.Changes), MaxAuditChanges)])
	for i, c := range e.Changes {
		e.Changes[i] = AuditChange{Field: cleanText(c.Field), Old: cleanText(c.Old), New: cleanText(c.New)}
	}
	return e
}

// secretForm matches the text of a token, a session or a code. A caller may paste one where a name belongs.
var secretForm = regexp.MustCompile(`(pg[qsc])_([0-9A-Za-z]{8})_[0-9A-Za-z]+`)

// jwtForm is the text of a JWT: its first part is a JSON object in base64.
var jwtForm = regexp.MustCompile(`eyJ[0-9A-Za-z_-]*\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+`)

// HideSecrets returns text without the secret parts of tokens, sessions, codes and JWTs in it, for a log of what callers sent.
func HideSecrets(text string) string {
	text = secretForm.ReplaceAllString(text, "${1}_${2}_[redacted]")
	return jwtForm.ReplaceAllString(text, "eyJ[redacted]")
}

// FindSecret returns the first text in the form of a token, a session or a code in text; "" without one.
func FindSecret(text string) string { return secretForm.FindString(text) }

// ClaimOf returns an entry with the principal that a refused credential claims: the public part of a token or a code, or the
// claims of a JWT. fault is the error of its check. An entry of another text has no principal.
func ClaimOf(credential string, fault error) AuditEntry {
	if jwt, ok := errors.AsType[*ClaimError](fault); ok {
		return AuditEntry{PrincipalID: JWTPrincipalID(jwt.Issuer, jwt.Subject), PrincipalKind: KindJWT, Issuer: jwt.Issuer, Subject: jwt.Subject}
	}
	switch {
	case hasSecretForm(secretPrefix, credential):
		return AuditEntry{PrincipalID: Secret{credential}.ID(), PrincipalKind: KindToken}
	case hasSecretForm(codePrefix, credential):
		return AuditEntry{PrincipalID: Secret{credential}.ID()}
	}
	return AuditEntry{}
}

func cleanText(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, text)
	text = HideSecrets(text)

	if len(text) > MaxAuditText {
		text = strings.ToValidUTF8(text[:MaxAuditText], "") // without a part of a letter at the end
	}
	return text
}
