package run

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxAccessFileBytes bounds an access file.
const maxAccessFileBytes = 1 << 20

// accessFile is the content of an access file: the issuers of JWTs that the server trusts, and the rules that give grants to
// JWTs and certificates.
type accessFile struct {
	issuers []access.Issuer
	rules   []access.Rule
}

// accessFileParser reads an access file. Its errors start with field and the line.
type accessFileParser struct{ field string }

// parseAccessFile reads the YAML text of an access file. Each error is KindInvalid and names the line: unknown and repeated
// keys, aliases, values of another form, and rules that can never match, or that an equal one precedes.
func parseAccessFile(content string) (accessFile, error) {
	const field = "access-file"
	p := accessFileParser{field}
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(content)))
	var document, next yaml.Node
	err := decoder.Decode(&document)
	switch {
	case errors.Is(err, io.EOF) || err == nil && document.Content[0].ShortTag() == "!!null":
		// A file that is being replaced may be empty for a moment, and must not take all rights then.
		return accessFile{}, queue.Invalid(field, "must be a file with issuers or rules, got nothing; write rules: [] to have none")
	case err != nil:
		return accessFile{}, p.refuseSyntax(err)
	case !errors.Is(decoder.Decode(&next), io.EOF):
		return accessFile{}, queue.Invalid(field, "must be one YAML document, got more; leave the others out")
	}

	entries, err := p.readMapping(document.Content[0], "issuers", "rules")
	if err != nil {
		return accessFile{}, err
	}
	issuers, err := p.readIssuers(entries["issuers"])
	if err != nil {
		return accessFile{}, err
	}
	rules, err := p.readRules(entries["rules"], issuers)
	return accessFile{issuers, rules}, err
}

// refuseSyntax returns the error of a text that is not YAML, in one line. The parser names the line of the fault.
func (p accessFileParser) refuseSyntax(err error) error {
	text := strings.TrimPrefix(strings.Join(strings.Fields(err.Error()), " "), "yaml: ")
	return queue.Invalid(p.field, fmt.Sprintf("must be YAML, got %.64q; correct the text near that line", text))
}

// at adds the place of a node to an error.
func (p accessFileParser) at(node *yaml.Node, err error) error {
	return queue.At(fmt.Sprintf("%s, line %d", p.field, node.Line), err)
}

// readMapping returns the values of a mapping by their keys, which are among known.
func (p accessFileParser) readMapping(node *yaml.Node, known ...string) (map[string]*yaml.Node, error) {
	if node.Kind != yaml.MappingNode {
		return nil, p.at(node, queue.Invalid("", fmt.Sprintf("must be a mapping with the keys %s, got %.64q; write key: value", strings.Join(known, ", "), describeNode(node))))
	}

	values := map[string]*yaml.Node{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		switch {
		case !slices.Contains(known, key.Value):
			return nil, p.at(key, queue.Invalid("", fmt.Sprintf("must have the keys %s, got %.64q; correct its spelling", strings.Join(known, ", "), key.Value)))
		case values[key.Value] != nil:
			return nil, p.at(key, queue.Invalid(key.Value, fmt.Sprintf("must be there once, got a second one of the key in line %d; leave one out", values[key.Value].Line)))
		}
		values[key.Value] = node.Content[i+1]
	}
	return values, nil
}

// readList returns the elements of a list of at most limit; an absent list is empty.
func (p accessFileParser) readList(name string, node *yaml.Node, limit int) ([]*yaml.Node, error) {
	switch {
	case node == nil:
		return nil, nil
	case node.Kind != yaml.SequenceNode:
		return nil, p.at(node, queue.Invalid(name, fmt.Sprintf("must be a list, got %.64q; write each element behind a -", describeNode(node))))
	case len(node.Content) > limit:
		return nil, p.at(node, queue.Invalid(name, fmt.Sprintf("must be at most %d elements, got %d", limit, len(node.Content))))
	}
	return node.Content, nil
}

// readText returns the text of a scalar as the file has it: yes and 007 are texts. An absent one is empty.
func (p accessFileParser) readText(name string, node *yaml.Node) (string, error) {
	if node == nil {
		return "", nil
	}
	if tag := node.ShortTag(); node.Kind != yaml.ScalarNode || tag == "!!null" || tag == "!!binary" {
		return "", p.at(node, queue.Invalid(name, fmt.Sprintf("must be a text, got %.64q; write it in quotes", describeNode(node))))
	}
	return node.Value, nil
}

// readTexts sets each target to the text with its name.
func (p accessFileParser) readTexts(values map[string]*yaml.Node, targets map[string]*string) error {
	for name, to := range targets {
		text, err := p.readText(name, values[name])
		if err != nil {
			return err
		}
		*to = text
	}
	return nil
}

func (p accessFileParser) readIssuers(list *yaml.Node) ([]access.Issuer, error) {
	nodes, err := p.readList("issuers", list, access.MaxIssuers)
	if err != nil {
		return nil, err
	}

	var issuers []access.Issuer
	for _, node := range nodes {
		values, err := p.readMapping(node, "issuer", "audience", "name", "ca_file", "token_file", "keys_url")
		if err != nil {
			return nil, err
		}

		var i access.Issuer
		if err := p.readTexts(values, map[string]*string{
			"issuer": &i.URL, "audience": &i.Audience, "name": &i.Name, "ca_file": &i.CAFile, "token_file": &i.TokenFile,
			"keys_url": &i.KeysURL,
		}); err != nil {
			return nil, err
		}
		if err := i.Validate(); err != nil {
			return nil, p.at(node, err)
		}
		if hasIssuer(issuers, i.URL) {
			return nil, p.at(node, queue.Invalid("issuer", fmt.Sprintf("must be listed once, got %.64q a second time; leave one out", i.URL)))
		}
		issuers = append(issuers, i)
	}
	return issuers, nil
}

func hasIssuer(issuers []access.Issuer, url string) bool {
	return slices.ContainsFunc(issuers, func(i access.Issuer) bool { return i.URL == url })
}

// ruleKey is the condition of a rule.
type ruleKey struct{ issuer, claim, is, certificate string }

func (p accessFileParser) readRules(list *yaml.Node, issuers []access.Issuer) ([]access.Rule, error) {
	nodes, err := p.readList("rules", list, access.MaxRules)
	if err != nil {
		return nil, err
	}

	var rules []access.Rule
	lines := map[ruleKey]int{}
	for _, node := range nodes {
		r, err := p.readRule(node)
		if err != nil {
			return nil, err
		}

		key := ruleKey{r.Issuer, r.Claim, r.Is, r.Certificate}
		switch {
		case r.Certificate == "" && !hasIssuer(issuers, r.Issuer):
			return nil, p.at(node, queue.Invalid("issuer", fmt.Sprintf("must be one of the issuers of this file, got %.64q; add it to issuers with its audience", r.Issuer)))
		case lines[key] != 0:
			return nil, p.at(node, queue.Invalid("rules", fmt.Sprintf("must have one rule for a condition, got that of line %d again; put the grants of both into one", lines[key])))
		}
		lines[key] = node.Line
		rules = append(rules, r)
	}
	return rules, nil
}

func (p accessFileParser) readRule(node *yaml.Node) (access.Rule, error) {
	values, err := p.readMapping(node, "issuer", "claim", "is", "cert", "grant")
	if err != nil {
		return access.Rule{}, err
	}

	var r access.Rule
	if err := p.readTexts(values, map[string]*string{"issuer": &r.Issuer, "claim": &r.Claim, "is": &r.Is, "cert": &r.Certificate}); err != nil {
		return r, err
	}
	if values["cert"] != nil && r.Certificate == "" {
		return r, p.at(values["cert"], queue.Invalid("cert", "must be the name in a certificate, got an empty text; write the name, or * for every name"))
	}

	nodes, err := p.readList("grant", values["grant"], access.MaxGrants)
	if err != nil {
		return r, err
	}
	for _, n := range nodes {
		text, err := p.readText("grant", n)
		if err != nil {
			return r, err
		}
		g, err := access.ParseGrant(text)
		if err != nil {
			return r, p.at(n, err)
		}
		r.Grants = append(r.Grants, g)
	}

	if err := r.Validate(); err != nil {
		return r, p.at(node, err)
	}
	return r, nil
}

// describeNode names the form of a node for a message.
func describeNode(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	case yaml.DocumentNode, yaml.ScalarNode:
	}
	if node.ShortTag() == "!!null" {
		return "nothing"
	}
	return node.Value
}
