package program

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// mayBeEmpty annotates flags with a meaningful empty value.
const mayBeEmpty = "pgqueue_may_be_empty"

// MayBeEmpty allows an empty value for the named flags of fs.
func MayBeEmpty(fs *pflag.FlagSet, names ...string) {
	for _, name := range names {
		// It fails only for an undefined flag, which tests find.
		_ = fs.SetAnnotation(name, mayBeEmpty, []string{"yes"})
	}
}

// RefuseEmpty refuses empty arguments and empty texts of given flags, as an unset shell variable makes them.
// Otherwise a filter would match every task, and a key or a namespace would silently be missing.
func RefuseEmpty(fs *pflag.FlagSet, args []string) error {
	const remedy = "must not be empty; give a value, or leave it out (a variable in the command line may be unset)"
	for i, arg := range args {
		if strings.TrimSpace(arg) == "" {
			return queue.Invalid(fmt.Sprintf("argument %d", i+1), remedy)
		}
	}
	var bad error
	fs.VisitAll(func(f *pflag.Flag) {
		if bad == nil && f.Changed && len(f.Annotations[mayBeEmpty]) == 0 && isEmpty(f.Value) {
			bad = queue.Invalid("--"+f.Name, remedy)
		}
	})
	return bad
}

// isEmpty reports whether v is an empty text, an empty list, or a list with an empty text.
func isEmpty(v pflag.Value) bool {
	if list, ok := v.(pflag.SliceValue); ok {
		for _, text := range list.GetSlice() {
			if strings.TrimSpace(text) == "" {
				return true
			}
		}
		return len(list.GetSlice()) == 0
	}
	return v.Type() == "string" && strings.TrimSpace(v.String()) == ""
}
