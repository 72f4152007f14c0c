package sqltext_test

import (
	"slices"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/postgres/internal/sqltext"
)

func TestSplitCommands(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script string
		want         []string
	}{
		{"two commands", "select 1;\nselect 2;\n", []string{"select 1", "select 2"}},
		{"no semicolon at the end", "select 1;\nselect 2", []string{"select 1", "select 2"}},
		{"empty parts and comments alone", ";; -- one;\n /* two; */ ;\n-- three", nil},
		{"a comment of a command stays with it", "-- first; of all\nselect 1;", []string{"-- first; of all\nselect 1"}},
		{"a semicolon in quotes", `select ';', 'it''s;', "a;b"; select 2`, []string{`select ';', 'it''s;', "a;b"`, "select 2"}},
		{"a body in dollars", "do $$ begin x; y; end $$; select $a$;$$;$a$;", []string{"do $$ begin x; y; end $$", "select $a$;$$;$a$"}},
		{"parameters open no quoted text", "select $1; select $2, ($3)", []string{"select $1", "select $2, ($3)"}},
		{"a quote without an end", "select 'a; b", []string{"select 'a; b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := sqltext.SplitCommands(c.script); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
