package general

import (
	"slices"
	"strings"
)

func isAddrStart(c byte) bool { return isWordByte(c) && c < 0x80 || c == '[' || c == ':' }

// matchAddr matches addresses of IPv4 and IPv6 and hosts with a port.
func matchAddr(s string) int {
	if s[0] == '[' {
		n := 1 + matchIPv6(s[1:])
		if n == 1 || n >= len(s) || s[n] != ']' {
			return 0
		}
		return n + 1 + matchPort(s[n+1:])
	}
	if n := matchIPv4(s); n > 0 {
		return n
	}
	if n := matchIPv6(s); n > 0 {
		return n
	}
	return matchHostPort(s)
}

// matchIPv4 matches four numbers, with a port or the length of a prefix.
func matchIPv4(s string) int {
	n := 0
	for part := range 4 {
		if part > 0 {
			if n >= len(s) || s[n] != '.' {
				return 0
			}
			n++
		}
		digits := countRun(s[n:], isDigit)
		if digits == 0 || digits > 3 {
			return 0
		}
		n += digits
	}

	if n+1 < len(s) && s[n] == '/' && isDigit(s[n+1]) {
		n += 1 + countRun(s[n+1:], isDigit)
	}
	n += matchPort(s[n:])
	if !isEnd(s, n) {
		return 0
	}
	return n
}

// matchIPv6 matches hexadecimal numbers with two colons or more and a digit.
func matchIPv6(s string) int {
	const longest = 45
	n := countRun(s[:min(len(s), longest)], func(c byte) bool { return isHex(c) || c == ':' })
	for n > 2 && s[n-1] == ':' && s[n-2] != ':' { // the colon of a sentence
		n--
	}

	text := s[:n]
	if strings.Count(text, ":") < 2 || !strings.ContainsAny(text, "0123456789") || !isEnd(s, n) || countRun(text, func(c byte) bool { return c != ':' }) > 4 {
		return 0
	}
	if zone := n; zone < len(s) && s[zone] == '%' {
		n += 1 + countRun(s[n+1:min(len(s), n+longest)], isIDByte)
	}
	return n
}

// matchPort matches a colon and a port.
func matchPort(s string) int {
	if s == "" || s[0] != ':' {
		return 0
	}
	n := countRun(s[1:], isDigit)
	if n == 0 || n > 5 || !isEnd(s, 1+n) {
		return 0
	}
	return 1 + n
}

// sourceEndings end the names of files, which stand before the number of a line as a host before a port.
var sourceEndings = []string{
	"c", "cc", "cpp", "cs", "ex", "go", "h", "java", "js", "jsx", "kt", "mjs", "php", "py", "rb", "rs", "scala", "sql", "swift", "ts", "tsx",
	"json", "yaml", "yml", "toml", "xml", "html", "csv", "txt",
}

// matchHostPort matches a hostname of several parts, or localhost, with a port.
func matchHostPort(s string) int {
	n := countHost(s)
	port := matchPort(s[n:])
	dot := strings.LastIndexByte(s[:n], '.')
	if n == 0 || port == 0 || dot < 0 && s[:n] != "localhost" || slices.Contains(sourceEndings, s[dot+1:n]) {
		return 0
	}
	return n + port
}

func isPathStart(c byte) bool {
	return c == '/' || c == '.' || c == '~' || c == '\\' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

func isPathByte(c byte) bool { return isWordByte(c) || strings.IndexByte(".@%+~-$", c) >= 0 }

// matchPath matches paths of two parts and more, below a root, a home or a folder, and those of Windows.
func matchPath(s string) int {
	if len(s) > 3 && s[1] == ':' && s[2] == '\\' || strings.HasPrefix(s, `\\`) {
		return matchWindowsPath(s)
	}

	n := countPathRoot(s)
	parts := 0
	for n+1 < len(s) && s[n] == '/' && isPathByte(s[n+1]) {
		n += 1 + countRun(s[n+1:], isPathByte)
		parts++
	}
	if parts == 0 || parts == 1 && s[0] == '/' {
		return 0
	}
	if n < len(s) && s[n] == '/' {
		n++
	}

	// Dots at the end belong to the sentence around the path.
	for s[n-1] == '.' {
		n--
	}
	return n
}

// countPathRoot counts the bytes before the first slash of a path: those of ".", "..", or "~"; 0 for an absolute one.
func countPathRoot(s string) int {
	if s[0] == '~' {
		return 1
	}
	return countRun(s[:min(len(s), 2)], func(c byte) bool { return c == '.' })
}

// matchWindowsPath matches a path behind a drive or a server.
func matchWindowsPath(s string) int {
	n := 2 + countRun(s[2:], func(c byte) bool { return isPathByte(c) || c == '\\' })
	for n > 3 && s[n-1] == '.' {
		n--
	}
	if n <= 3 {
		return 0
	}
	return n
}
