package program

import (
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"strings"
)

var (
	// passwordKeyword is a password in the keywords of a connection string.
	passwordKeyword = regexp.MustCompile(`(?i)(^|\s)(ssl)?password\s*=\s*[^\s']|(^|\s)(ssl)?password\s*=\s*'[^']`)
	// authorizationHeader is a header with a credential, as --header takes it.
	authorizationHeader = regexp.MustCompile(`(?i)^\s*(proxy-)?authorization\s*:\s*\S`)
)

// warnArguments logs one line when an argument of this process has a secret. The line does not show it.
func warnArguments(log *slog.Logger) {
	if name := findSecretArgument(os.Args[1:]); name != "" {
		log.Warn("an argument has a secret, which every user of this machine can read in the list of processes; give it by the environment or a file",
			"argument", name)
	}
}

// findSecretArgument returns the name of the first argument with a password of a database or a credential of a header: its flag, or URL
// for one without; "" for none.
func findSecretArgument(args []string) string {
	name := "URL"
	for _, arg := range args {
		value := arg
		if flag, given, ok := strings.Cut(arg, "="); strings.HasPrefix(arg, "-") {
			name = flag
			if !ok {
				continue // the value may be the next argument
			}
			value = given
		}
		if hasPassword(value) || authorizationHeader.MatchString(value) {
			return name
		}
		name = "URL"
	}
	return ""
}

// hasPassword reports whether text is a connection string of PostgreSQL with a password.
func hasPassword(text string) bool {
	if !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		return passwordKeyword.MatchString(text)
	}
	u, err := url.Parse(text)
	if err != nil {
		return strings.Contains(text, "@") // it will be refused
	}
	_, inUser := u.User.Password()
	return inUser || u.Query().Get("password") != "" || u.Query().Get("sslpassword") != ""
}
