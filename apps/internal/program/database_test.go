package program_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
)

func TestDatabaseURLsAreWhatTheDriverTakes(t *testing.T) {
	for _, url := range []string{
		"postgres://u:p@h:5432/d?sslmode=disable", "postgresql://postgres@%2Ftmp%2Fpg:15541/app", "postgres://postgres@[::1]:15541,127.0.0.1:15541/app",
		"postgresql://p:a^b{c}|d@127.0.0.1:15541/app", "postgres:///app?host=/socket/dir", "host=/tmp user=u password='it is'", "postgres://h1,h2:5433/d?target_session_attrs=read-write",
		"postgres://u:se%23cr%40et@h/d", "",
	} {
		d := program.Database{Schema: program.DefaultSchema, URL: url, ListenURL: url}
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for url, says := range map[string]string{
		"postgres://u:s3cr et@h/d":      "percent-encode",
		"postgres://u:s3cr%zzet@h/d":    "percent-encode",
		"postgres://u:s3cr/et@h:x/d":    "percent-encode",
		"postgres://u:s3cret@h:x/d":     "percent-encode",
		"mysql://u:s3cret@h/d":          `unknown scheme "mysql"`,
		"db.example.org":                "must be a URL such as postgres://",
		"u:s3cret@h/d":                  "must be a URL such as postgres://",
		"host=h port=x password=s3cret": "port",
		"host=h password='s3cret":       "must be a URL",
		"postgres://u:s3cret@h/d?sslmode=verify-full&sslrootcert=/does/not/exist": "/does/not/exist",
		"postgres://u:s3cret@h/d?connect_timeout=soon":                            "connect_timeout",
	} {
		for _, d := range []program.Database{{URL: url}, {ListenURL: url}} {
			d.Schema = program.DefaultSchema
			err := d.Validate()
			if queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v should say %q", url, err, says)
				continue
			}
			if strings.Contains(err.Error(), "s3cr") || !strings.Contains(err.Error(), "url: ") {
				t.Errorf("%s: it shows a password, or not which setting: %v", url, err)
			}
		}
	}
}

func TestWhatIsWrongWithADatabaseIsRefusedAtTheStart(t *testing.T) {
	for field, d := range map[string]program.Database{
		"wait": {Schema: "s", Wait: 2 * time.Hour}, "max-conns": {Schema: "s", MaxConns: -1}, "schema": {Schema: strings.Repeat("x", 100)},
	} {
		if err := d.Validate(); queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// TestASettingOfAnotherProgramIsRefused gives the database of a server to a client, and the reverse.
func TestASettingOfAnotherProgramIsRefused(t *testing.T) {
	lookup := func(value string) func(string) (string, bool) {
		return func(name string) (string, bool) { return value, name == "PGQUEUE_URL" }
	}
	for value, refused := range map[string]bool{
		"postgres://u:secret@db/app": true, "postgresql://db/app": true, "host=db password=secret": true, " postgres://db": true,
		"http://localhost:8080/api": false, "https://u:p@queue.example.com/api?a=b": false, "": false,
	} {
		for database, needed := range map[string]bool{"": true, "postgres://db/app": false} {
			d := program.Database{URL: database}
			err := d.RefuseClientURL(lookup(value))
			if (err != nil) != (refused && needed) || err != nil && (strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "PGQUEUE_DATABASE_URL")) {
				t.Errorf("PGQUEUE_URL=%s beside the database %q: %v", value, database, err)
			}
		}
		s := program.Server{URL: value, Protocol: program.REST}
		if err := s.Validate(); (err != nil) != refused || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("--url %s: %v", value, err)
		}
	}
	for _, url := range []string{"http://localhost:8080/api", "https://queue.example.com"} {
		d := program.Database{URL: url, Schema: "pgqueue"}
		if err := d.Validate(); err == nil || !strings.Contains(err.Error(), "got the URL of a server") {
			t.Errorf("--database-url %s: %v", url, err)
		}
	}
}
