package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// writeYAML writes JSON as YAML: keys in their order, numbers as they were written.
func writeYAML(w io.Writer, b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	node, err := newYAMLNode(dec)
	if err != nil {
		return err
	}

	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)

	if err := enc.Encode(node); err != nil {
		return err
	}

	return enc.Close()
}

func newYAMLNode(dec *json.Decoder) (*yaml.Node, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}

	scalar := func(tag, value string) *yaml.Node {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
	}

	switch v := tok.(type) {
	case nil:
		return scalar("!!null", "null"), nil
	case bool:
		return scalar("!!bool", strconv.FormatBool(v)), nil
	case string:
		n := &yaml.Node{}
		// It quotes words that older readers parse as booleans, as no.
		return n, n.Encode(v)

	case json.Number:
		// Without a tag it is written as it is, however large.
		return scalar("", v.String()), nil

	case json.Delim:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		if v == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}

		for dec.More() {
			// In an object the keys are tokens like the rest.
			child, err := newYAMLNode(dec)
			if err != nil {
				return nil, err
			}

			n.Content = append(n.Content, child)
		}

		// The last token closes the object or list.
		_, err := dec.Token()

		return n, err
	}

	return nil, fmt.Errorf("output: must be JSON, got the token %.64v; use --output json", tok)
}
