package program

import (
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Token is the bearer token of a setting: one that comes from a file has its line end. It is never part of the error.
func Token(setting string) (string, error) {
	token := strings.TrimSpace(setting)
	if strings.ContainsFunc(token, func(r rune) bool { return r < '!' || r > '~' }) {
		return "", queue.Invalid("--auth-token", "must be visible ASCII alone; it holds a blank, a line end or another character")
	}
	return token, nil
}
