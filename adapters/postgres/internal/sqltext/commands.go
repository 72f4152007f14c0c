package sqltext

import "strings"

// SplitCommands returns the commands of a script, without their semicolons. It knows comments, quoted texts and names, and texts
// in dollars, in which a semicolon ends no command. Parts that contain only comments and white space are left out.
//
// Citus takes one command in a message. Bodies of functions stand in dollars: a body of SQL ("begin atomic") has semicolons
// without quotes.
func SplitCommands(script string) []string {
	var commands []string
	start, hasText := 0, false

	for at := 0; at < len(script); {
		rest := script[at:]
		length := quotedLength(rest)

		switch {
		case rest[0] == ';':
			if hasText {
				commands = append(commands, strings.TrimSpace(script[start:at]))
			}
			start, hasText = at+1, false
		case length > 0:
			hasText = hasText || !isComment(rest)
		case !strings.ContainsRune(" \t\r\n", rune(rest[0])):
			hasText = true
		}
		at += max(length, 1)
	}

	if hasText {
		commands = append(commands, strings.TrimSpace(script[start:]))
	}
	return commands
}

func isComment(text string) bool {
	return strings.HasPrefix(text, "--") || strings.HasPrefix(text, "/*")
}

// quotedLength returns the length in bytes of the comment or quoted text at the beginning of text. It returns 0 if there is
// none. One without an end reaches to the end of text.
func quotedLength(text string) int {
	switch {
	case strings.HasPrefix(text, "--"):
		return lengthTo(text, 2, "\n")
	case strings.HasPrefix(text, "/*"):
		return lengthTo(text, 2, "*/")
	case text[0] == '\'', text[0] == '"':
		// A doubled quote within is the end of one text and the beginning of the next.
		return lengthTo(text, 1, text[:1])
	case text[0] == '$':
		end := strings.IndexByte(text[1:], '$')
		if end < 0 || strings.ContainsAny(text[1:end+1], " \t\r\n;,()") {
			return 0
		}
		tag := text[:end+2]
		return lengthTo(text, len(tag), tag)
	}
	return 0
}

// lengthTo returns the length of text up to the end of the first occurrence of end behind the first bytes.
func lengthTo(text string, first int, end string) int {
	at := strings.Index(text[first:], end)
	if at < 0 {
		return len(text)
	}
	return first + at + len(end)
}
