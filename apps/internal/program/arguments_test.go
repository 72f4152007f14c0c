package program

import "testing"

// TestArgumentsWithSecretsAreFound: a password of a database and a header with a credential, in each form of a flag.
func TestArgumentsWithSecretsAreFound(t *testing.T) {
	for _, c := range []struct {
		want string
		args []string
	}{
		{"", nil},
		{"", []string{"postgres://app@db/app", "--addr=:8080"}},
		{"", []string{"host=db user=app", "--header", "Accept: text/plain"}},
		{"", []string{"--listen-url", "postgres:///app?host=/run"}},
		{"", []string{"--passfile=x", "password"}},
		{"URL", []string{"--addr=:8080", "postgres://app:secret@db/app"}},
		{"URL", []string{"postgresql://db/app?password=secret"}},
		{"URL", []string{"host=db password=secret"}},
		{"URL", []string{"host=db PASSWORD = 'secret'"}},
		{"--database-url", []string{"--database-url", "postgres://app:secret@db/app"}},
		{"--database-url", []string{"--database-url=postgres://app:secret@db/app"}},
		{"--listen-url", []string{"--listen-url=host=db password=secret"}},
		{"--header", []string{"-q", "mail", "--header", "authorization: Bearer secret"}},
		{"--header", []string{"--header=Authorization:secret"}},
	} {
		if got := findSecretArgument(c.args); got != c.want {
			t.Errorf("%q: %q, want %q", c.args, got, c.want)
		}
	}
}
