package run

import (
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// wholeAccessFile has each form of entry.
const wholeAccessFile = `# people and machines
issuers:
  - {issuer: https://id.example.com, audience: pgqueue, name: email}
  - issuer: https://kubernetes.example.com
    audience: pgqueue
rules:
  - {issuer: https://id.example.com, claim: groups, is: sre, grant: [admin@*]}
  - {issuer: https://id.example.com, claim: groups, is: yes, grant: [viewer@default]}
  - issuer: https://kubernetes.example.com
    claim: sub
    is: system:serviceaccount:mail:*
    grant:
      - worker@default/mail*
      - producer@default
  - {cert: spiffe://example.org/ns/billing/*, grant: [producer@billing]}
`

func TestParseAccessFile(t *testing.T) {
	f, err := parseAccessFile(wholeAccessFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.issuers) != 2 || f.issuers[0] != (access.Issuer{URL: "https://id.example.com", Audience: "pgqueue", Name: "email"}) {
		t.Errorf("issuers %+v", f.issuers)
	}

	var got []string
	for _, r := range f.rules {
		line := r.Issuer + " " + r.Claim + " " + r.Is + " " + r.Certificate
		for _, g := range r.Grants {
			line += " " + g.String()
		}
		got = append(got, line)
	}
	want := []string{
		"https://id.example.com groups sre  admin@*",
		"https://id.example.com groups yes  viewer@default",
		"https://kubernetes.example.com sub system:serviceaccount:mail:*  worker@default/mail* producer@default",
		"   spiffe://example.org/ns/billing/* producer@billing",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("rules:\n%s", strings.Join(got, "\n"))
	}

	if f, err := parseAccessFile("rules: []\n"); err != nil || len(f.rules) != 0 {
		t.Errorf("a file without rules: %+v %v", f, err)
	}
}

func TestParseAccessFileRefuses(t *testing.T) {
	const issuer = "issuers: [{issuer: https://a.example, audience: x}]\n"
	many := "rules:\n" + strings.Repeat("- {cert: a, grant: [viewer@x]}\n", access.MaxRules+1)
	for name, c := range map[string]struct{ content, says string }{
		"nothing":                     {"", "write rules: [] to have none"},
		"blanks":                      {"\n \n", "write rules: [] to have none"},
		"a comment":                   {"# none\n", "write rules: [] to have none"},
		"null":                        {"~\n", "write rules: [] to have none"},
		"no YAML":                     {"rules:\n  - {cert: a\n", "must be YAML, got "},
		"a tab":                       {"rules:\n\t- a\n", "line 2"},
		"bytes that are not UTF-8":    {"rules:\n  - {cert: \xff}\n", "must be YAML"},
		"a text":                      {"viewer@default", "access-file, line 1: must be a mapping"},
		"a list":                      {"- a", "access-file, line 1: must be a mapping"},
		"an unknown key":              {"rules: []\nusers: []\n", `access-file, line 2: must have the keys issuers, rules, got "users"`},
		"a repeated key":              {"rules: []\nissuers: []\nrules: []\n", "access-file, line 3.rules: must be there once, got a second one of the key in line 1"},
		"two documents":               {"rules: []\n---\nrules: []\n", "must be one YAML document"},
		"rules that are a text":       {"rules: all\n", "access-file, line 1.rules: must be a list"},
		"a rule that is a text":       {"rules:\n  - all\n", "access-file, line 2: must be a mapping"},
		"an unknown key of a rule":    {"rules:\n  - {cert: a, grants: [viewer@x]}\n", `access-file, line 2: must have the keys issuer, claim, is, cert, grant, got "grants"`},
		"a repeated key of a rule":    {"rules:\n  - cert: a\n    cert: b\n", "access-file, line 3.cert: must be there once"},
		"an unknown key of an issuer": {"issuers:\n  - {url: https://a.example}\n", `line 2: must have the keys issuer, audience, name, ca_file, token_file, keys_url, got "url"`},
		"an issuer without audience":  {"issuers:\n  - {issuer: https://a.example}\n", "line 2.audience: must be a text"},
		"an issuer without TLS":       {"issuers:\n  - {issuer: http://a.example, audience: x}\n", "line 2.issuer: must be a URL"},
		"an issuer twice":             {"issuers:\n  - {issuer: https://a.example, audience: x}\n  - {issuer: https://a.example, audience: y}\n", "line 3.issuer: must be listed once"},
		"a rule of an unknown issuer": {issuer + "rules:\n  - {issuer: https://b.example, claim: sub, is: a, grant: [viewer@x]}\n", "line 3.issuer: must be one of the issuers of this file"},
		"a rule without a claim":      {issuer + "rules:\n  - {issuer: https://a.example, is: a, grant: [viewer@x]}\n", "line 3.claim: must be a text"},
		"a rule of both kinds":        {issuer + "rules:\n  - {issuer: https://a.example, cert: a, grant: [viewer@x]}\n", "line 3.cert: must not come with issuer"},
		"a rule of neither kind":      {"rules:\n  - {grant: [viewer@x]}\n", "line 2.issuer: must be a text"},
		"a rule without a grant":      {"rules:\n  - {cert: a}\n", "line 2.grant: must be 1 to 100 grants, got 0"},
		"a grant that is a text":      {"rules:\n  - {cert: a, grant: viewer@x}\n", "line 2.grant: must be a list"},
		"a grant of an unknown role":  {"rules:\n  - cert: a\n    grant:\n      - viewer@x\n      - root@x\n", "line 5.grant"},
		"an empty name":               {"rules:\n  - {cert: '', grant: [viewer@x]}\n", "line 2.cert: must be the name in a certificate"},
		"a name that is null":         {"rules:\n  - {cert: ~, grant: [viewer@x]}\n", "line 2.cert: must be a text, got \"nothing\""},
		"a name that is absent":       {"rules:\n  - {cert: , grant: [viewer@x]}\n", "line 2.cert: must be a text, got \"nothing\""},
		"a star within a name":        {"rules:\n  - {cert: a*b, grant: [viewer@x]}\n", "line 2.cert: must have a * at its end alone"},
		"an alias":                    {"rules:\n  - {cert: &a x, grant: [viewer@x]}\n  - {cert: *a, grant: [viewer@y]}\n", "line 3.cert: must be a text, got \"an alias\""},
		"merged keys":                 {"rules:\n  - &a {cert: x, grant: [viewer@x]}\n  - {<<: *a, cert: y}\n", `line 3: must have the keys issuer, claim, is, cert, grant, got "<<"`},
		"a condition twice":           {"rules:\n  - {cert: a, grant: [viewer@x]}\n  - {cert: a, grant: [admin@x]}\n", "line 3.rules: must have one rule for a condition, got that of line 2 again"},
		"several faults of a rule": {
			issuer + "rules:\n  - {issuer: 'https://*', is: a*b, grant: [root@x, viewer@x/]}\n",
			`access-file: must have no fault, got 5; correct each; line 3.grant: must start with one of the roles`,
		},
		"several faults of an issuer":      {"issuers:\n  - {issuer: http://a.example, name: ~, token_file: a}\n", "got 4; correct each; line 2.name: must be a text, got \"nothing\"; write it in quotes; line 2.issuer: must be a URL"},
		"faults of several elements":       {"issuers:\n  - {issuer: https://a.example}\nrules:\n  - {cert: a}\n  - all\n", "got 3; correct each; line 2.audience"},
		"a misspelt key is one fault":      {"rules:\n  - {cert: a, grants: [viewer@x]}\n", `access-file, line 2: must have the keys`},
		"a wrong issuer and its rule":      {"issuers:\n  - {issuer: https://a.example}\nrules:\n  - {issuer: https://a.example, claim: a, is: b, grant: [viewer@x]}\n", "access-file, line 2.audience"},
		"more faults than a line can hold": {"rules:\n" + strings.Repeat("  - all\n", 30), "; and 20 more"},
		"too many rules":                   {many, "must be at most 1000 elements, got 1001"},
		"lists in lists without an end":    {strings.Repeat("[", 100_000), "must be YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseAccessFile(c.content)
			if queue.KindOf(err) != queue.KindInvalid || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v should say %q", err, c.says)
			}
		})
	}
}

func FuzzParseAccessFile(f *testing.F) {
	f.Add(wholeAccessFile)
	f.Add("rules:\n  - &a {cert: x, grant: [viewer@x]}\n  - {<<: *a, cert: y}\n")
	f.Fuzz(func(t *testing.T, content string) {
		file, err := parseAccessFile(content)
		if err != nil {
			if queue.KindOf(err) != queue.KindInvalid {
				t.Errorf("%v must be invalid", err)
			}
			return
		}
		for _, r := range file.rules {
			if err := r.Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}
