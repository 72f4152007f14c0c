package queue

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// FingerprintVersion is the version of the rules of [FingerprintOf]. A change of a rule raises it, because equal errors then get
// other fingerprints.
const FingerprintVersion = 1

const (
	// maxKindBytes bounds the kind of an error.
	maxKindBytes = 64
	// maxMessageBytes bounds the part of a message that decides. Longer messages are stack traces, which differ at their end.
	maxMessageBytes = 512
	// longQuote is the number of bytes from which on a text in quotes counts as data.
	longQuote = 24
	// maxErrorNesting bounds the objects in which the message of an error is searched.
	maxErrorNesting = 3
)

// Fingerprint identifies errors that are alike except for ids, numbers, times and other data.
type Fingerprint struct {
	// ID has 16 hexadecimal digits.
	ID string
	// Kind is the type or code that the error names, as it is; "" without one.
	Kind string
	// Message is the text of the error with placeholders in the place of data, as "<n>" or "<url>".
	Message string
}

// The names of the fields of an error, in the order of preference.
var (
	kindFields    = []string{"kind", "type", "name", "code", "class", "status"}
	messageFields = []string{"error", "message", "msg", "detail", "reason", "title", "text", "truncated", "exception", "cause"}
)

// FingerprintOf returns the fingerprint of an error: of any JSON, of bytes that cannot be read as JSON, and of none. It is a pure function
// of the bytes, so all versions of a program agree for one FingerprintVersion.
func FingerprintOf(b json.RawMessage) Fingerprint {
	kind, message := splitError(b)
	f := Fingerprint{Kind: truncateText(kind, maxKindBytes), Message: generalizeText(message)}
	sum := sha256.Sum256([]byte(strconv.Itoa(FingerprintVersion) + "\x00" + f.Kind + "\x00" + f.Message))
	f.ID = hex.EncodeToString(sum[:8])
	return f
}

// splitError returns the kind and the message of an error. An object without a field of a known name is its own message.
func splitError(b json.RawMessage) (kind, message string) {
	for range maxErrorNesting {
		var text string
		if json.Unmarshal(b, &text) == nil {
			return kind, text
		}

		var fields map[string]json.RawMessage
		if json.Unmarshal(b, &fields) != nil || fields == nil {
			break
		}
		if kind == "" {
			kind = readKind(fields)
		}
		inner := findMessage(fields)
		if inner == nil {
			break
		}
		b = inner
	}
	return kind, strings.ToValidUTF8(string(b), "\uFFFD")
}

// readKind returns the kind that an error names: a text or a number.
func readKind(fields map[string]json.RawMessage) string {
	for _, name := range kindFields {
		var text string
		var number json.Number
		switch raw := fields[name]; {
		case json.Unmarshal(raw, &text) == nil && text != "":
			return text
		case json.Unmarshal(raw, &number) == nil && number != "":
			return number.String()
		}
	}
	return ""
}

// findMessage returns the field with the message of an error; nil without one.
func findMessage(fields map[string]json.RawMessage) json.RawMessage {
	for _, name := range messageFields {
		if raw := fields[name]; len(raw) > 0 && (raw[0] == '"' || raw[0] == '{') {
			return raw
		}
	}
	return nil
}

// generalization replaces data of one form. Each form ignores the values of digits, so that equal errors meet.
type generalization struct {
	form  *regexp.Regexp
	place string
}

// generalizations are tried on each word in this order.
var generalizations = []generalization{
	{regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>)\]}]+`), "<url>"},
	{regexp.MustCompile(`[^\s@<>"'(),;:=]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+`), "<mail>"},
	{regexp.MustCompile(`[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}`), "<uuid>"},
	{regexp.MustCompile(`\d{4}[-/]\d{2}[-/]\d{2}([T_]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?)?(Z|[+-]\d{2}:?\d{2})?`), "<time>"},
	{regexp.MustCompile(`\d{1,2}:\d{2}:\d{2}([.,]\d+)?`), "<time>"},
	{regexp.MustCompile(`\[[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*\](:\d+)?`), "<addr>"},
	{regexp.MustCompile(`\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(:\d+)?`), "<addr>"},
	{regexp.MustCompile(`\b\d[xX][0-9A-Fa-f]+`), "<addr>"},
	{regexp.MustCompile(`[A-Za-z]:\\[^\s"'<>|]+`), "<path>"},
	{regexp.MustCompile(`(\.{0,2}/[\w.@%+~-]+){2,}/?`), "<path>"},
	{regexp.MustCompile(`\d+(\.\d+)?(ns|us|µs|ms|s|m|h|d)(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))*\b`), "<duration>"},
	{regexp.MustCompile(`\d+([.,]\d+)*([eE][+-]?\d+)?`), "<n>"},
}

// hexWord is a word of hexadecimal digits that may be an id: it is one when it has a digit and a letter.
var hexWord = regexp.MustCompile(`\b[0-9A-Fa-f]{8,}\b`)

// mixedWord is a word of letters and digits, as of an id in base 36 or 64; it is an id when both take turns often enough.
var mixedWord = regexp.MustCompile(`\b[0-9A-Za-z_-]{12,}\b`)

// generalizeText replaces the data in a message by placeholders.
func generalizeText(message string) string {
	message = truncateText(message, maxMessageBytes)
	message = replaceLongQuotes(message)

	words := strings.Fields(message)
	kept := words[:0]
	for _, word := range words {
		word = generalizeWord(word)
		// A date and a time in two words are one time, as a date with a time in one word is.
		if len(kept) > 0 && strings.HasPrefix(word, "<time>") && strings.HasSuffix(kept[len(kept)-1], "<time>") {
			kept[len(kept)-1] += strings.TrimPrefix(word, "<time>")
			continue
		}
		kept = append(kept, word)
	}
	return strings.Join(kept, " ")
}

// generalizeWord replaces the data in one word. Most words have none.
func generalizeWord(word string) string {
	if !strings.ContainsAny(word, "0123456789/@:\\") {
		return word
	}

	for i, g := range generalizations {
		if i == len(generalizations)-2 { // before durations and numbers take the ids apart
			word = hexWord.ReplaceAllStringFunc(word, func(s string) string { return replaceID(s, 2) })
			word = mixedWord.ReplaceAllStringFunc(word, func(s string) string { return replaceID(s, 4) })
		}
		word = g.form.ReplaceAllString(word, g.place)
	}
	return word
}

// replaceID returns the placeholder of an id when s changes between letters and digits so often, else s.
func replaceID(s string, changes int) string {
	found := 1
	for i := 1; i < len(s); i++ {
		if isDigit(s[i-1]) != isDigit(s[i]) {
			found++
		}
	}
	if found < changes {
		return s
	}
	return "<id>"
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= utf8.RuneSelf }

// replaceLongQuotes replaces texts in quotes that are too long for a name.
func replaceLongQuotes(s string) string {
	var b strings.Builder
	for s != "" {
		at := strings.IndexAny(s, "\"'`")
		if at < 0 {
			break
		}
		quote := s[at : at+1]
		if quote == "'" && at > 0 && isLetter(s[at-1]) { // an apostrophe, as in "can't"
			b.WriteString(s[:at+1])
			s = s[at+1:]
			continue
		}

		length := strings.Index(s[at+1:], quote)
		if length < 0 {
			break
		}
		end := at + 1 + length + 1
		if length < longQuote {
			b.WriteString(s[:end])
		} else {
			b.WriteString(s[:at+1] + "<text>" + quote)
		}
		s = s[end:]
	}
	b.WriteString(s)
	return b.String()
}
