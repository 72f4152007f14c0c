package queue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pgqueue/pgqueue/domain/queue/internal/general"
)

// EmptyJSON is the payload of a task that was created without one.
var EmptyJSON = json.RawMessage("{}")

// CheckJSON reports whether b is one JSON value that is kept exactly and can be stored: at most maxBytes long, nested
// at most MaxJSONDepth deep, valid UTF-8, no lone surrogate escapes, nothing behind the value. Big numbers, key order,
// duplicate keys and \u0000 are kept as they are. field names the input in the error.
//
// It runs in one pass and constant space before encoding/json sees the bytes, so that hostile nesting costs nothing.
func CheckJSON(field string, b []byte, maxBytes int) error {
	if len(b) > maxBytes {
		return &Error{Kind: KindTooLarge, Field: field, Msg: fmt.Sprintf("must have at most %d bytes, got %d", maxBytes, len(b))}
	}

	// PostgreSQL refuses it in a text, and encoding/json would replace it silently.
	if !utf8.Valid(b) {
		return Invalid(field, "must be valid UTF-8; encode the text as UTF-8")
	}

	if msg := findJSONFault(b); msg != "" {
		return Invalid(field, msg)
	}

	if !isValidJSON(b) {
		return Invalid(field, "must be one JSON value, got "+general.TruncateText(describeJSONFault(b), 64)+"; correct it")
	}

	return nil
}

// findJSONFault checks nesting and surrogates without building anything; "" means fine.
func findJSONFault(b []byte) string {
	switch {
	case exceedsDepth(b):
		return fmt.Sprintf("must be nested at most %d levels deep; flatten it", MaxJSONDepth)
	case HasLoneSurrogate(b):
		return loneSurrogate
	}
	return ""
}

// exceedsDepth reports whether b is nested more than MaxJSONDepth deep.
func exceedsDepth(b []byte) bool {
	// Most texts have too few brackets for that, and counting characters is faster than parsing.
	if bytes.Count(b, []byte{'{'})+bytes.Count(b, []byte{'['}) <= MaxJSONDepth {
		return false
	}

	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		// The parse behind this check refuses a backslash outside of a text.
		case c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxJSONDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// loneSurrogate is the rule that HasLoneSurrogate checks.
const loneSurrogate = `must have no lone surrogate escape; write \ud800-\udfff in pairs`

// HasLoneSurrogate reports whether the JSON text b has the escape of half a surrogate pair. encoding/json would replace it
// silently by U+FFFD.
func HasLoneSurrogate(b []byte) bool {
	if !bytes.Contains(b, []byte(`\u`)) {
		return false
	}

	high := false // the escape before this byte is a high surrogate
	for i := 0; i < len(b); i++ {
		r := -1
		if b[i] == '\\' {
			if i+5 < len(b) && b[i+1] == 'u' {
				r = parseHexDigits(b[i+2 : i+6])
				i += 4
			}
			i++ // the escaped byte may be a backslash
		}

		if low := r >= 0xDC00 && r < 0xE000; low != high {
			return true
		}
		high = r >= 0xD800 && r < 0xDC00
	}
	return false
}

// parseHexDigits reads four hexadecimal digits; -1 where they are none (encoding/json refuses those later).
func parseHexDigits(b []byte) int {
	r := 0
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | int(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | int(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | int(c-'A'+10)
		default:
			return -1
		}
	}

	return r
}

func describeJSONFault(b []byte) string {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err.Error()
	}
	return "malformed"
}

// CleanJSON turns whatever a handler produced into JSON that CheckJSON accepts, so that a worker's odd bytes can never
// keep a task from ending: text that is not JSON becomes a JSON string, invalid UTF-8 and lone surrogates become U+FFFD, and
// a value that is too large becomes an object with its beginning. nil stays nil.
func CleanJSON(b []byte, maxBytes int) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	if CheckJSON("", b, maxBytes) == nil {
		return b
	}
	if len(b) > maxBytes {
		return quoteJSONObject("truncated", b[:max(0, maxBytes/8)])
	}
	// Decoding and encoding again replaces lone surrogates; that text was not exact before.
	dec := json.NewDecoder(strings.NewReader(strings.ToValidUTF8(string(b), "\uFFFD")))
	// A float64 would change numbers above 2^53.
	dec.UseNumber()
	var v any
	if dec.Decode(&v) == nil && !dec.More() {
		if out, err := json.Marshal(v); err == nil && CheckJSON("", out, maxBytes) == nil {
			return out
		}
	}
	// A byte becomes six as an escape, and the frame takes some: an eighth always fits.
	return quoteJSONObject("text", b[:min(len(b), max(0, maxBytes/8))])
}

// ErrorJSON is the result of a failed task: {"error": "…"}, cut to MaxErrorBytes.
func ErrorJSON(msg string) json.RawMessage {
	return quoteJSONObject("error", []byte(general.TruncateText(strings.ToValidUTF8(msg, "\uFFFD"), MaxErrorBytes)))
}

func quoteJSONObject(key string, text []byte) json.RawMessage {
	b, err := json.Marshal(map[string]string{key: strings.ToValidUTF8(string(text), "\uFFFD")})
	if err != nil { // a map of valid strings always marshals
		return EmptyJSON
	}
	return b
}
