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

// accessFileParser reads an access file and collects its faults, so that one message names all of them.
type accessFileParser struct {
	field  string
	faults []error // each starts with field and the line
}

// maxShownFaults bounds the faults of a message. The others are counted.
const maxShownFaults = 10

// parseAccessFile reads the YAML text of an access file. Its error is KindInvalid and names each fault with its line: unknown and
// repeated keys, aliases, values of another form, and rules that can never match, or that an equal one precedes.
func parseAccessFile(content string) (accessFile, error) {
	p := &accessFileParser{field: accessFileField}
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(content)))
	var document, next yaml.Node
	err := decoder.Decode(&document)
	switch {
	case errors.Is(err, io.EOF) || err == nil && document.Content[0].ShortTag() == "!!null":
		// A file that is being replaced may be empty for a moment, and must not take all rights then.
		return accessFile{}, queue.Invalid(p.field, "must be a file with issuers or rules, got nothing; write rules: [] to have none")
	case err != nil:
		return accessFile{}, p.refuseSyntax(err)
	case !errors.Is(decoder.Decode(&next), io.EOF):
		return accessFile{}, queue.Invalid(p.field, "must be one YAML document, got more; leave the others out")
	}

	entries, _ := p.readMapping(document.Content[0], "issuers", "rules")
	issuers := p.readIssuers(entries["issuers"])
	rules := p.readRules(entries["rules"], issuers)
	if err := p.fault(); err != nil {
		return accessFile{}, err
	}
	return accessFile{issuers, rules}, nil
}

// fault returns one error for all faults; nil without any.
func (p *accessFileParser) fault() error {
	switch len(p.faults) {
	case 0:
		return nil
	case 1:
		return p.faults[0]
	}

	var text strings.Builder
	for i, fault := range p.faults {
		if i == maxShownFaults {
			fmt.Fprintf(&text, "; and %d more", len(p.faults)-i)
			break
		}
		text.WriteString("; " + strings.TrimPrefix(fault.Error(), p.field+", "))
	}
	return queue.Invalid(p.field, fmt.Sprintf("must have no fault, got %d; correct each%s", len(p.faults), text.String()))
}

// refuseSyntax returns the error of a text that is not YAML, in one line. The parser names the line of the fault.
func (p *accessFileParser) refuseSyntax(err error) error {
	text := strings.TrimPrefix(strings.Join(strings.Fields(err.Error()), " "), "yaml: ")
	return queue.Invalid(p.field, fmt.Sprintf("must be YAML, got %.64q; correct the text near that line", text))
}

// refuse records a fault at the place of a node.
func (p *accessFileParser) refuse(node *yaml.Node, err error) {
	p.faults = append(p.faults, queue.At(fmt.Sprintf("%s, line %d", p.field, node.Line), err))
}

// readMapping returns the values of a mapping by their keys, which are among known. It reports whether it has no fault.
func (p *accessFileParser) readMapping(node *yaml.Node, known ...string) (values map[string]*yaml.Node, ok bool) {
	if node.Kind != yaml.MappingNode {
		p.refuse(node, queue.Invalid("", fmt.Sprintf("must be a mapping with the keys %s, got %.64q; write key: value", strings.Join(known, ", "), describeNode(node))))
		return nil, false
	}

	values, ok = map[string]*yaml.Node{}, true
	// YAML has keys and values in turn in one list.
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		switch {
		case !slices.Contains(known, key.Value):
			ok = false
			p.refuse(key, queue.Invalid("", fmt.Sprintf("must have the keys %s, got %.64q; correct its spelling", strings.Join(known, ", "), key.Value)))
		case values[key.Value] != nil:
			ok = false
			p.refuse(key, queue.Invalid(key.Value, fmt.Sprintf("must be there once, got a second one of the key in line %d; leave one out", values[key.Value].Line)))
		default:
			values[key.Value] = node.Content[i+1]
		}
	}
	return values, ok
}

// readList returns the elements of a list of at most limit; an absent or a wrong list is empty.
func (p *accessFileParser) readList(name string, node *yaml.Node, limit int) []*yaml.Node {
	switch {
	case node == nil:
		return nil
	case node.Kind != yaml.SequenceNode:
		p.refuse(node, queue.Invalid(name, fmt.Sprintf("must be a list, got %.64q; write each element behind a -", describeNode(node))))
		return nil
	case len(node.Content) > limit:
		p.refuse(node, queue.Invalid(name, fmt.Sprintf("must be at most %d elements, got %d", limit, len(node.Content))))
		return nil
	}
	return node.Content
}

// readText returns the text of a scalar as the file has it: yes and 007 are texts. An absent or a wrong one is empty.
func (p *accessFileParser) readText(name string, node *yaml.Node) string {
	if node == nil {
		return ""
	}
	if tag := node.ShortTag(); node.Kind != yaml.ScalarNode || tag == "!!null" || tag == "!!binary" {
		p.refuse(node, queue.Invalid(name, fmt.Sprintf("must be a text, got %.64q; write it in quotes", describeNode(node))))
		return ""
	}
	return node.Value
}

// textField is a key of a mapping with the place for its text.
type textField struct {
	name string
	to   *string
}

// readEntry reads the texts of an element of a list, with check for its rules. A key with a fault has no second one. It reports
// whether the element has no fault.
func (p *accessFileParser) readEntry(node *yaml.Node, texts []textField, lists []string, check func(values map[string]*yaml.Node) []error) bool {
	var known []string
	for _, t := range texts {
		known = append(known, t.name)
	}
	known = append(known, lists...)
	before := len(p.faults)
	values, ok := p.readMapping(node, known...)
	for _, t := range texts {
		*t.to = p.readText(t.name, values[t.name])
	}

	// A rule that misses a key is a second fault of a key with a wrong spelling.
	if found := check(values); ok {
		for _, fault := range found {
			if e, isOurs := errors.AsType[*queue.Error](fault); !isOurs || !p.hasFault(before, e.Field) {
				p.refuse(node, fault)
			}
		}
	}
	return len(p.faults) == before
}

// hasFault reports whether a fault behind the first ones is of the field called name.
func (p *accessFileParser) hasFault(first int, name string) bool {
	return slices.ContainsFunc(p.faults[first:], func(fault error) bool {
		e, ok := errors.AsType[*queue.Error](fault)
		return ok && strings.HasSuffix(e.Field, "."+name)
	})
}

func (p *accessFileParser) readIssuers(list *yaml.Node) []access.Issuer {
	var issuers []access.Issuer
	for _, node := range p.readList("issuers", list, access.MaxIssuers) {
		var i access.Issuer
		p.readEntry(node, []textField{
			{"issuer", &i.URL},
			{"audience", &i.Audience},
			{"name", &i.Name},
			{"ca_file", &i.CAFile},
			{"token_file", &i.TokenFile},
			{"keys_url", &i.KeysURL},
		}, nil, func(map[string]*yaml.Node) []error {
			faults := i.Faults()
			if hasIssuer(issuers, i.URL) {
				faults = append(faults, queue.Invalid("issuer", fmt.Sprintf("must be listed once, got %.64q a second time; leave one out", i.URL)))
			}
			return faults
		})
		issuers = append(issuers, i) // one with a fault too, so that its rules have no second one
	}
	return issuers
}

func hasIssuer(issuers []access.Issuer, url string) bool {
	return slices.ContainsFunc(issuers, func(i access.Issuer) bool { return i.URL == url })
}

// ruleKey is the condition of a rule.
type ruleKey struct{ issuer, claim, is, certificate string }

func (p *accessFileParser) readRules(list *yaml.Node, issuers []access.Issuer) []access.Rule {
	var rules []access.Rule
	lines := map[ruleKey]int{}
	for _, node := range p.readList("rules", list, access.MaxRules) {
		r, ok := p.readRule(node, issuers)
		if !ok {
			continue
		}

		key := ruleKey{r.Issuer, r.Claim, r.Is, r.Certificate}
		if lines[key] != 0 {
			p.refuse(node, queue.Invalid("rules", fmt.Sprintf("must have one rule for a condition, got that of line %d again; put the grants of both into one", lines[key])))
			continue
		}
		lines[key] = node.Line
		rules = append(rules, r)
	}
	return rules
}

// readRule reads a rule. It reports whether the rule has no fault.
func (p *accessFileParser) readRule(node *yaml.Node, issuers []access.Issuer) (r access.Rule, ok bool) {
	ok = p.readEntry(node, []textField{
		{"issuer", &r.Issuer}, {"claim", &r.Claim}, {"is", &r.Is}, {"cert", &r.Certificate},
	}, []string{"grant"}, func(values map[string]*yaml.Node) []error {
		p.readGrants(values["grant"], &r)
		if values["cert"] != nil && r.Certificate == "" {
			return []error{queue.Invalid("cert", "must be the name in a certificate, got an empty text; write the name, or * for every name")}
		}

		faults := r.Faults()
		if r.Certificate == "" && r.Issuer != "" && !hasIssuer(issuers, r.Issuer) {
			faults = append(faults, queue.Invalid("issuer", fmt.Sprintf("must be one of the issuers of this file, got %.64q; add it to issuers with its audience", r.Issuer)))
		}
		return faults
	})
	return r, ok
}

// readGrants reads the grants of a rule.
func (p *accessFileParser) readGrants(list *yaml.Node, r *access.Rule) {
	for _, n := range p.readList("grant", list, access.MaxGrants) {
		before := len(p.faults)
		text := p.readText("grant", n)
		if len(p.faults) > before {
			continue
		}
		g, err := access.ParseGrant(text)
		if err != nil {
			p.refuse(n, err)
			continue
		}
		r.Grants = append(r.Grants, g)
	}
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
