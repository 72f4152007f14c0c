package schema

import (
	"fmt"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Stats are the sizes of a JSON text.
type Stats struct {
	// Nodes is the number of values, at least 1. An object or an array counts, and each value in it.
	Nodes int
	// Objects is the number of objects.
	Objects int
	// Depth is the nesting of objects and arrays.
	Depth int
}

// Scan reads the JSON text b once and returns its sizes. It refuses numbers of more than MaxDigits digits or with an exponent
// beyond ±MaxExponent with KindInvalid, and nesting beyond queue.MaxJSONDepth. It reads faulty JSON as far as it can, and
// leaves it to the parser. field names the input in the error. It takes constant space.
func Scan(field string, b []byte) (Stats, error) {
	s := Stats{Nodes: 1}
	depth := 0
	for i := 0; i < len(b); {
		switch c := b[i]; {
		case c == '"':
			i = skipString(b, i)
			continue
		case c == '-' || c >= '0' && c <= '9':
			n, ok := readNumber(b[i:])
			if !ok {
				return s, queue.Invalid(field, fmt.Sprintf(
					"must have numbers of at most %d digits with exponents from -%d to %d, got %.64q; write such a number as a text",
					MaxDigits, MaxExponent, MaxExponent, b[i:i+n]))
			}
			i += n
			continue
		case c == '{' || c == '[':
			depth++
			s.Depth = max(s.Depth, depth)
			s.Nodes++
			if c == '{' {
				s.Objects++
			}
		case c == '}' || c == ']':
			depth--
		case c == ',':
			s.Nodes++
		}
		i++
	}

	if s.Depth > queue.MaxJSONDepth {
		return s, queue.Invalid(field, fmt.Sprintf("must be nested at most %d levels deep, got %d", queue.MaxJSONDepth, s.Depth))
	}
	return s, nil
}

// skipString returns the place behind the text that begins at i.
func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// readNumber returns the length of the number that b begins with, and whether it is within the limits. Leading zeros of an
// exponent do not count.
func readNumber(b []byte) (n int, ok bool) {
	digits, exponent, inExponent := 0, 0, false
	for n = range b {
		switch c := b[n]; {
		case c >= '0' && c <= '9' && inExponent:
			exponent = min(exponent*10+int(c-'0'), MaxExponent+1)
		case c >= '0' && c <= '9':
			digits++
		case c == 'e' || c == 'E':
			inExponent = true
		case c != '.' && c != '+' && c != '-':
			return n, digits <= MaxDigits && exponent <= MaxExponent
		}
	}
	return len(b), digits <= MaxDigits && exponent <= MaxExponent
}
