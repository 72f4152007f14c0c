package root

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/apps/cli/internal/iostreams"
)

// TestMisspeltVariablesAreRefused runs a destructive command beside variables that no program reads.
func TestMisspeltVariablesAreRefused(t *testing.T) {
	for variable, refused := range map[string]string{
		"PGQUEUE_NAMSPACE=prod":               "PGQUEUE_NAMESPACE",
		"PGQUEUE_NAMESPACES=prod":             "PGQUEUE_NAMESPACE",
		"PGQUEUE_PROTOKOL=connect":            "PGQUEUE_PROTOCOL",
		"PGQUEUE_ADDR=:8080":                  "", // of the server
		"PGQUEUE_TASK_ID=7":                   "", // of the worker
		"PGQUEUE_NAMESPACE=shop":              "",
		"PGQUEUE_QUEUE=mail":                  "", // of the worker; here it would be a filter
		"PGQUEUE_FROB=1":                      "",
		"PGQUEUE_PORT_8080_TCP_ADDR=10.0.0.1": "", // of Kubernetes
	} {
		t.Run(variable, func(t *testing.T) {
			var out, errs bytes.Buffer
			streams := iostreams.System(func(string) (string, bool) { return "", false })
			streams.In, streams.Out, streams.Err = bytes.NewReader(nil), &out, &errs
			f := &factory.Factory{
				IO: streams, Version: "test", Now: time.Now, Lookup: func(string) (string, bool) { return "", false },
				Environ: func() []string { return []string{variable} },
			}

			code := Run(t.Context(), f, []string{"delete-queue", "mail", "--url", "http://127.0.0.1:1/api", "--timeout", "1ms"})
			if got := bytes.Contains(errs.Bytes(), []byte("correct it to "+refused)); got != (refused != "") {
				t.Errorf("exit code %d, %s", code, errs.String())
			}
			name, _, _ := strings.Cut(variable, "=")
			if warned := bytes.Contains(errs.Bytes(), []byte("no setting is read from the variable "+name)); warned != (name == "PGQUEUE_QUEUE" || name == "PGQUEUE_FROB") {
				t.Errorf("exit code %d, %s", code, errs.String())
			}
			if refused != "" && code != 2 {
				t.Errorf("got exit code %d, want 2", code)
			}
		})
	}
}
