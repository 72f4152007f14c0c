package program

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// mayBeEmpty annotates flags of which an empty value says something.
const mayBeEmpty = "pgqueue_may_be_empty"

// MayBeEmpty lets the flags of fs that names names have an empty value.
func MayBeEmpty(fs *pflag.FlagSet, names ...string) {
	for _, name := range names {
		_ = fs.SetAnnotation(name, mayBeEmpty, []string{"yes"}) // it fails for a flag that is not there: a mistake that tests find
	}
}

// RefuseEmpty refuses arguments and texts of flags that were given and are empty. A variable that is unset makes such:
// without this a filter would match everything, and a key or a namespace would be gone without a word.
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

// isEmpty says that v is a text, or a list of texts with an empty one or none.
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
