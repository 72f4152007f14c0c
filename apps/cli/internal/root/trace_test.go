package root

import (
	"testing"
)

func TestTraceOfTheEnvironment(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	s := newShell(t, startServer(t))
	s.must("create-queue", "mail")
	for name, c := range map[string]struct {
		env  map[string]string
		args []string
		want string
	}{
		"none":                   {nil, nil, "null\n"},
		"a parent":               {map[string]string{"TRACEPARENT": parent}, nil, `{"traceparent":"` + parent + `"}` + "\n"},
		"a parent and its state": {map[string]string{"TRACEPARENT": parent, "TRACESTATE": "a=1"}, []string{"--header", "x=y"}, `{"traceparent":"` + parent + `","tracestate":"a=1","x":"y"}` + "\n"},
		"a state alone":          {map[string]string{"TRACESTATE": "a=1"}, nil, "null\n"},
		"another form":           {map[string]string{"TRACEPARENT": "00-xyz\nevil"}, nil, "null\n"},
		"a header of the caller": {map[string]string{"TRACEPARENT": parent}, []string{"--header", "traceparent=mine"}, `{"traceparent":"mine"}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range c.env {
				s.env[k] = v
				t.Cleanup(func() { delete(s.env, k) })
			}
			if got := s.must(append([]string{"create-task", "mail", "--jq", ".headers"}, c.args...)...); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
