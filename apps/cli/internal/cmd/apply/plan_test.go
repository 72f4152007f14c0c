package apply

import (
	"slices"
	"testing"
)

func TestTargetsOfDeadLettersComeFirst(t *testing.T) {
	type pair struct{ name, target string }
	for _, c := range []struct {
		all  []pair
		want []string
	}{
		{nil, nil},
		{[]pair{{"a", ""}, {"b", ""}}, []string{"a", "b"}},
		{[]pair{{"a", "c"}, {"b", "a"}, {"c", ""}}, []string{"c", "a", "b"}},
		{[]pair{{"a", "elsewhere"}, {"b", ""}}, []string{"a", "b"}},
		{[]pair{{"a", "b"}, {"b", "a"}}, []string{"b", "a"}}, // the server refuses it
		{[]pair{{"a", "a"}}, []string{"a"}},
	} {
		var got []string
		for _, p := range orderTargets(c.all, func(p pair) (string, string) { return p.name, p.target }) {
			got = append(got, p.name)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v is ordered as %v, want %v", c.all, got, c.want)
		}
	}
}
