package apply

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// maxFileBytes bounds a file of definitions: 1 MiB.
const maxFileBytes = 1 << 20

// definition is what a file says of one namespace.
type definition struct {
	namespace string
	named     map[string]bool // queues, tickers: a kind that is not named stays as it is
	queues    []defined[queue.Queue]
	groups    map[string][]defined[queue.GroupPolicy] // by queue, for each queue that names groups
	tickers   []defined[queue.Ticker]
}

// defined is a queue, a group or a ticker of the file.
type defined[V any] struct {
	at    place
	name  string
	want  V
	given map[string]bool // the fields that the file names
}

// place is where something stands in a file.
type place struct {
	file string
	line int
	path string
}

// below returns the place of a part.
func (p place) below(name string, n *yaml.Node) place {
	p.line = n.Line
	if p.path != "" {
		name = p.path + "." + name
	}
	p.path = name
	return p
}

// fault returns an error about the place.
func (p place) fault(rule string) error {
	return &queue.Error{Kind: queue.KindInvalid, Subject: fmt.Sprintf("%s:%d", p.file, p.line), Field: p.path, Msg: rule}
}

// locate returns the error of a rule of the domain with its place.
func (p place) locate(err error) error {
	e, ok := errors.AsType[*queue.Error](err)
	if !ok {
		return p.fault(err.Error())
	}
	located := *e
	located.Subject = fmt.Sprintf("%s:%d", p.file, p.line)
	located.Field = p.path
	if e.Field != "" && !strings.HasSuffix(p.path, "."+e.Field) {
		located.Field += "." + e.Field
	}
	return &located
}

// readDefinitions reads the documents of a file. Each is about one namespace: its own, or else namespace.
func readDefinitions(file string, from io.Reader, namespace string) ([]definition, error) {
	// One byte more shows that the file exceeds the bound.
	text, err := io.ReadAll(io.LimitReader(from, maxFileBytes+1))
	if err != nil {
		return nil, &queue.Error{Op: "read definitions", Kind: queue.KindInvalid, Subject: file, Err: err}
	}
	if len(text) > maxFileBytes {
		return nil, queue.Invalid(file, fmt.Sprintf("must have at most %d bytes, got more; split the file", maxFileBytes))
	}

	var all []definition
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, queue.Invalid(file, fmt.Sprintf("must be YAML or JSON, got %.200s; correct it", strings.Join(strings.Fields(err.Error()), " ")))
		}

		d, err := readDefinition(place{file: file, line: 1}, doc.Content[0], namespace)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(other definition) bool { return other.namespace == d.namespace }) {
			return nil, place{file: file, line: doc.Content[0].Line, path: "namespace"}.fault(
				fmt.Sprintf("must be defined once, got %.64q again; put all of it into one document", d.namespace))
		}
		all = append(all, d)
	}

	if len(all) == 0 {
		return nil, queue.Invalid(file, "must define queues or tickers, got an empty file; add one of them")
	}
	return all, nil
}

// readDefinition reads one document.
func readDefinition(at place, n *yaml.Node, namespace string) (definition, error) {
	d := definition{namespace: namespace, named: map[string]bool{}}
	// Names of the namespace are checked with it, so it comes first.
	parts, err := readMapping(at, n, []string{"namespace", "queues", "tickers"})
	if err != nil {
		return d, err
	}
	for _, p := range parts {
		if p.name != "namespace" {
			continue
		}
		text, err := parseText[string](p.node)
		if err == nil {
			d.namespace, err = queue.NamespaceName(text)
		}
		if err != nil {
			return d, p.at.locate(err)
		}
	}

	for _, p := range parts {
		d.named[p.name] = true
		switch p.name {
		case "queues":
			err = d.readQueues(p)
		case "tickers":
			d.tickers, err = readAll(p, tickerFields, queue.TickerName, func(name string, m queue.TickerMeta) (queue.Ticker, error) {
				m.Name = name
				return queue.NewTicker(d.namespace, m, queue.DefaultMaxPayloadBytes)
			}, nil)
		}
		if err != nil {
			return d, err
		}
	}
	return d, nil
}

// groupsField is the setting of a queue that has the settings of its groups.
const groupsField = "groups"

// readQueues reads the queues of a document with their groups.
func (d *definition) readQueues(all part) (err error) {
	d.groups = map[string][]defined[queue.GroupPolicy]{}
	d.queues, err = readAll(all, queueFields, queue.QueueName, func(name string, m queue.QueueMeta) (queue.Queue, error) {
		m.Name = name
		return queue.NewQueue(d.namespace, m)
	}, map[string]func(string, part) error{groupsField: func(name string, p part) (err error) {
		d.groups[name], err = readAll(p, groupFields, queue.GroupName, func(_ string, m queue.GroupMeta) (queue.GroupPolicy, error) {
			return queue.GroupPolicy{}.With(m)
		}, nil)
		return err
	}})
	if err != nil {
		return err
	}

	// A rule of both the queue and the group needs all settings of the queue.
	for _, q := range d.queues {
		for _, g := range d.groups[q.name] {
			if err := q.want.CheckGroupPolicy(g.want); err != nil {
				return g.at.locate(err)
			}
		}
	}
	return nil
}

// part is a key of a mapping with its value.
type part struct {
	name string
	at   place
	node *yaml.Node
}

// readMapping returns the parts of a mapping. known are the keys that it may have; none = any.
func readMapping(at place, n *yaml.Node, known []string) ([]part, error) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil, nil
	}
	if n.Kind != yaml.MappingNode {
		at.line = n.Line
		return nil, at.fault(fmt.Sprintf("must be a mapping, got %.80s; write name: {…}", describeNode(n)))
	}

	var parts []part
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		p := part{key.Value, at.below(key.Value, key), n.Content[i+1]}
		if key.Kind != yaml.ScalarNode || len(known) > 0 && !slices.Contains(known, key.Value) {
			return nil, p.at.fault(fmt.Sprintf("must be one of %s, got %.80s; correct the name", strings.Join(known, ", "), describeNode(key)))
		}
		if slices.ContainsFunc(parts, func(other part) bool { return other.name == p.name }) {
			return nil, p.at.fault(fmt.Sprintf("must be there once, got %.64q twice; leave one out", p.name))
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// readAll reads the queues, groups or tickers of a mapping. nested reads the settings that are mappings, by their names.
func readAll[M, V any](
	all part, fields []field[M, V], check func(string) (string, error), build func(string, M) (V, error), nested map[string]func(string, part) error,
) ([]defined[V], error) {
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = f.name
	}
	known = slices.AppendSeq(known, maps.Keys(nested))

	entries, err := readMapping(all.at, all.node, nil)
	if err != nil {
		return nil, err
	}
	out := make([]defined[V], 0, len(entries))
	for _, entry := range entries {
		d := defined[V]{at: entry.at, given: map[string]bool{}}
		if d.name, err = check(entry.name); err != nil {
			return nil, entry.at.locate(err)
		}
		if slices.ContainsFunc(out, func(other defined[V]) bool { return other.name == d.name }) {
			return nil, entry.at.fault(fmt.Sprintf("must be there once, got %.64q twice; leave one out", d.name))
		}

		settings, err := readMapping(entry.at, entry.node, known)
		if err != nil {
			return nil, err
		}
		var meta M
		for _, s := range settings {
			if read := nested[s.name]; read != nil {
				if err := read(d.name, s); err != nil {
					return nil, err
				}
				continue
			}
			f := fields[slices.Index(known, s.name)]
			if err := f.read(&meta, s.node); err != nil {
				return nil, s.at.fault(err.Error())
			}
			// Also for a value that is the default: a pause that the file names does not stay as it is.
			d.given[s.name] = true
		}
		if d.want, err = build(d.name, meta); err != nil {
			return nil, locateField(entry.at, settings, err)
		}
		out = append(out, d)
	}
	return out, nil
}

// locateField returns the error of a value at the line of its field.
func locateField(at place, settings []part, err error) error {
	if e, ok := errors.AsType[*queue.Error](err); ok {
		for _, s := range settings {
			if s.name == e.Field {
				return s.at.locate(err)
			}
		}
	}
	return at.locate(err)
}

// compactJSON returns a JSON text without white space.
func compactJSON(text []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return text
	}
	return b.Bytes()
}
