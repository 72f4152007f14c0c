package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// field is a setting of a queue or a ticker: M is the input of its create and update, V is its stored form.
type field[M, V any] struct {
	name string
	// read sets the field of M from the file. Its error is a rule without the name of the field.
	read func(*M, *yaml.Node) error
	// show returns the value in V as text, for comparison and for people.
	show func(*V) string
	// copyTo sets the field of M from V.
	copyTo func(*M, *V)
}

// newField returns the field that meta and value hold as a T.
func newField[M, V, T any](name string, meta func(*M) **T, value func(*V) *T, parse func(*yaml.Node) (T, error), format func(T) string) field[M, V] {
	return field[M, V]{
		name: name,
		read: func(m *M, n *yaml.Node) error {
			v, err := parse(n)
			if err == nil {
				*meta(m) = &v
			}
			return err
		},
		show:   func(v *V) string { return format(*value(v)) },
		copyTo: func(m *M, v *V) { *meta(m) = new(*value(v)) },
	}
}

func parseDuration(n *yaml.Node) (time.Duration, error) {
	if n.Kind != yaml.ScalarNode {
		return 0, fmt.Errorf("must be a duration such as 30s, 1h30m or 7d, got %.80s", describeNode(n))
	}
	return program.ParseDuration(n.Value)
}

func parseInt(n *yaml.Node) (int, error) {
	i, err := strconv.Atoi(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode || n.Tag != "!!int" {
		return 0, fmt.Errorf("must be a whole number, got %.80s; write it without quotes and unit", describeNode(n))
	}
	return i, nil
}

func parseBool(n *yaml.Node) (bool, error) {
	var b bool
	if n.Tag != "!!bool" || n.Decode(&b) != nil {
		return false, fmt.Errorf("must be true or false, got %.80s", describeNode(n))
	}
	return b, nil
}

func parseTime(n *yaml.Node) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		return t, fmt.Errorf("must be a time such as 2026-01-02T15:04:05Z, got %.80s", describeNode(n))
	}
	return t, nil
}

func parseText[T ~string](n *yaml.Node) (T, error) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return "", fmt.Errorf("must be a text, got %.80s; put it in quotes", describeNode(n))
	}
	return T(n.Value), nil
}

func parseTexts(n *yaml.Node) ([]string, error) {
	texts := []string{}
	if n.Kind != yaml.SequenceNode || n.Decode(&texts) != nil {
		return nil, fmt.Errorf("must be a list of texts, got %.80s; write it as [invalid_input, gone]", describeNode(n))
	}
	// The server keeps lists sorted, so that equal ones compare as equal.
	slices.Sort(texts)
	return slices.Compact(texts), nil
}

func formatTexts(texts []string) string { return strings.Join(texts, ",") }

// describeNode names a value of the file for an error.
func describeNode(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	case yaml.DocumentNode, yaml.ScalarNode:
	}
	if n.Tag == "!!null" {
		return "nothing"
	}
	return fmt.Sprintf("%.64q", n.Value)
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func formatText[T ~string](v T) string { return string(v) }

// queueFields are the settings of a queue, by their names in REST.
var queueFields = []field[queue.QueueMeta, queue.Queue]{
	newField("ttl", func(m *queue.QueueMeta) **time.Duration { return &m.TTL }, func(q *queue.Queue) *time.Duration { return &q.TTL }, parseDuration, time.Duration.String),
	newField("retries", func(m *queue.QueueMeta) **int { return &m.Retries }, func(q *queue.Queue) *int { return &q.Retries }, parseInt, strconv.Itoa),
	newField("retry_delay", func(m *queue.QueueMeta) **time.Duration { return &m.RetryDelay }, func(q *queue.Queue) *time.Duration { return &q.RetryDelay }, parseDuration, time.Duration.String),
	newField("backoff", func(m *queue.QueueMeta) **queue.Backoff { return &m.Backoff }, func(q *queue.Queue) *queue.Backoff { return &q.Backoff }, parseText[queue.Backoff], formatText[queue.Backoff]),
	newField("retry_max_delay", func(m *queue.QueueMeta) **time.Duration { return &m.RetryMaxDelay }, func(q *queue.Queue) *time.Duration { return &q.RetryMaxDelay }, parseDuration, time.Duration.String),
	newField("lease", func(m *queue.QueueMeta) **time.Duration { return &m.Lease }, func(q *queue.Queue) *time.Duration { return &q.Lease }, parseDuration, time.Duration.String),
	newField("concurrency", func(m *queue.QueueMeta) **int { return &m.Concurrency }, func(q *queue.Queue) *int { return &q.Concurrency }, parseInt, strconv.Itoa),
	newField("retention", func(m *queue.QueueMeta) **time.Duration { return &m.Retention }, func(q *queue.Queue) *time.Duration { return &q.Retention }, parseDuration, time.Duration.String),
	newField(pausedField, func(m *queue.QueueMeta) **bool { return &m.Paused }, func(q *queue.Queue) *bool { return &q.Paused }, parseBool, strconv.FormatBool),
	newField("fair", func(m *queue.QueueMeta) **bool { return &m.Fair }, func(q *queue.Queue) *bool { return &q.Fair }, parseBool, strconv.FormatBool),
	newField("rate_limit", func(m *queue.QueueMeta) **int { return &m.RateLimit }, func(q *queue.Queue) *int { return &q.RateLimit }, parseInt, strconv.Itoa),
	newField("rate_period", func(m *queue.QueueMeta) **time.Duration { return &m.RatePeriod }, func(q *queue.Queue) *time.Duration { return &q.RatePeriod }, parseDuration, time.Duration.String),
	newField("rate_burst", func(m *queue.QueueMeta) **int { return &m.RateBurst }, func(q *queue.Queue) *int { return &q.RateBurst }, parseInt, strconv.Itoa),
	newField("group_concurrency", func(m *queue.QueueMeta) **int { return &m.GroupConcurrency }, func(q *queue.Queue) *int { return &q.GroupConcurrency }, parseInt, strconv.Itoa),
	newField("group_rate_limit", func(m *queue.QueueMeta) **int { return &m.GroupRateLimit }, func(q *queue.Queue) *int { return &q.GroupRateLimit }, parseInt, strconv.Itoa),
	newField("group_rate_period", func(m *queue.QueueMeta) **time.Duration { return &m.GroupRatePeriod }, func(q *queue.Queue) *time.Duration { return &q.GroupRatePeriod }, parseDuration, time.Duration.String),
	newField("group_rate_burst", func(m *queue.QueueMeta) **int { return &m.GroupRateBurst }, func(q *queue.Queue) *int { return &q.GroupRateBurst }, parseInt, strconv.Itoa),
	newField("order", func(m *queue.QueueMeta) **queue.Order { return &m.Order }, func(q *queue.Queue) *queue.Order { return &q.Order }, parseText[queue.Order], formatText[queue.Order]),
	newField("fifo_batch", func(m *queue.QueueMeta) **int { return &m.FIFOBatch }, func(q *queue.Queue) *int { return &q.FIFOBatch }, parseInt, strconv.Itoa),
	newField("group_on_failure", func(m *queue.QueueMeta) **queue.GroupOnFailure { return &m.GroupOnFailure }, func(q *queue.Queue) *queue.GroupOnFailure { return &q.GroupOnFailure }, parseText[queue.GroupOnFailure], formatText[queue.GroupOnFailure]),
	newField("max_waiting", func(m *queue.QueueMeta) **int { return &m.MaxWaiting }, func(q *queue.Queue) *int { return &q.MaxWaiting }, parseInt, strconv.Itoa),
	newField("non_retryable", func(m *queue.QueueMeta) **[]string { return &m.NonRetryable }, func(q *queue.Queue) *[]string { return &q.NonRetryable }, parseTexts, formatTexts),
	newField("max_lease_losses", func(m *queue.QueueMeta) **int { return &m.MaxLeaseLosses }, func(q *queue.Queue) *int { return &q.MaxLeaseLosses }, parseInt, strconv.Itoa),
	newField(deadLetterField, func(m *queue.QueueMeta) **string { return &m.DeadLetter }, func(q *queue.Queue) *string { return &q.DeadLetter }, parseText[string], formatText[string]),
	newField("events", func(m *queue.QueueMeta) **bool { return &m.Events }, func(q *queue.Queue) *bool { return &q.Events }, parseBool, strconv.FormatBool),
}

// groupFields are the settings of one group of a queue, by their names in REST.
var groupFields = []field[queue.GroupMeta, queue.GroupPolicy]{
	newField("weight", func(m *queue.GroupMeta) **int { return &m.Weight }, func(p *queue.GroupPolicy) *int { return &p.Weight }, parseInt, strconv.Itoa),
	newField("concurrency", func(m *queue.GroupMeta) **int { return &m.Concurrency }, func(p *queue.GroupPolicy) *int { return &p.Concurrency }, parseInt, strconv.Itoa),
	newField("rate_limit", func(m *queue.GroupMeta) **int { return &m.RateLimit }, func(p *queue.GroupPolicy) *int { return &p.RateLimit }, parseInt, strconv.Itoa),
	newField("rate_period", func(m *queue.GroupMeta) **time.Duration { return &m.RatePeriod }, func(p *queue.GroupPolicy) *time.Duration { return &p.RatePeriod }, parseDuration, time.Duration.String),
	newField("rate_burst", func(m *queue.GroupMeta) **int { return &m.RateBurst }, func(p *queue.GroupPolicy) *int { return &p.RateBurst }, parseInt, strconv.Itoa),
	newField(pausedUntilField, func(m *queue.GroupMeta) **time.Time { return &m.PausedUntil }, func(p *queue.GroupPolicy) *time.Time { return &p.PausedUntil }, parseTime, formatTime),
}

// tickerFields are the settings of a ticker, by their names in REST.
var tickerFields = []field[queue.TickerMeta, queue.Ticker]{
	newField("period", func(m *queue.TickerMeta) **time.Duration { return &m.Period }, func(t *queue.Ticker) *time.Duration { return &t.Period }, parseDuration, time.Duration.String),
	newField("cron", func(m *queue.TickerMeta) **string { return &m.Cron }, func(t *queue.Ticker) *string { return &t.Cron }, parseText[string], formatText[string]),
	newField("timezone", func(m *queue.TickerMeta) **string { return &m.Timezone }, func(t *queue.Ticker) *string { return &t.Timezone }, parseText[string], formatText[string]),
	newField("queue", func(m *queue.TickerMeta) **string { return &m.Queue }, func(t *queue.Ticker) *string { return &t.Queue }, parseText[string], formatText[string]),
	{
		name: "payload",
		read: func(m *queue.TickerMeta, n *yaml.Node) (err error) {
			m.Payload, err = encodeJSON(nil, n)
			return err
		},
		show:   func(t *queue.Ticker) string { return string(compactJSON(t.Payload)) },
		copyTo: func(m *queue.TickerMeta, t *queue.Ticker) { m.Payload = t.Payload },
	},
	newField("misfire", func(m *queue.TickerMeta) **queue.Misfire { return &m.Misfire }, func(t *queue.Ticker) *queue.Misfire { return &t.Misfire }, parseText[queue.Misfire], formatText[queue.Misfire]),
	newField("misfire_limit", func(m *queue.TickerMeta) **int { return &m.MisfireLimit }, func(t *queue.Ticker) *int { return &t.MisfireLimit }, parseInt, strconv.Itoa),
	newField("overlap", func(m *queue.TickerMeta) **queue.Overlap { return &m.Overlap }, func(t *queue.Ticker) *queue.Overlap { return &t.Overlap }, parseText[queue.Overlap], formatText[queue.Overlap]),
	newField(pausedField, func(m *queue.TickerMeta) **bool { return &m.Paused }, func(t *queue.Ticker) *bool { return &t.Paused }, parseBool, strconv.FormatBool),
}

// These fields keep their values when the file does not name them: operators pause queues and groups in an incident.
const (
	pausedField      = "paused"
	pausedUntilField = "paused_until"
)

// deadLetterField names a queue that must be there first.
const deadLetterField = "dead_letter"

// encodeJSON appends a value of YAML to b as JSON. Numbers keep their digits.
func encodeJSON(b []byte, n *yaml.Node) (_ []byte, err error) {
	switch n.Kind {
	case yaml.MappingNode:
		b = append(b, '{')
		for i := 0; i < len(n.Content); i += 2 {
			if i > 0 {
				b = append(b, ',')
			}
			if n.Content[i].Kind != yaml.ScalarNode {
				return b, fmt.Errorf("must have texts as keys, got %.80s; put the key in quotes", describeNode(n.Content[i]))
			}
			if b, err = appendText(b, n.Content[i].Value); err != nil {
				return b, err
			}
			b = append(b, ':')
			if b, err = encodeJSON(b, n.Content[i+1]); err != nil {
				return b, err
			}
		}
		return append(b, '}'), nil

	case yaml.SequenceNode:
		b = append(b, '[')
		for i, e := range n.Content {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = encodeJSON(b, e); err != nil {
				return b, err
			}
		}
		return append(b, ']'), nil

	case yaml.ScalarNode:
		return encodeScalar(b, n)

	case yaml.AliasNode, yaml.DocumentNode:
	}
	return b, errors.New("must have no aliases, got one; write the value out")
}

func encodeScalar(b []byte, n *yaml.Node) ([]byte, error) {
	switch n.Tag {
	case "!!null":
		return append(b, "null"...), nil
	case "!!bool":
		v, err := parseBool(n)
		return strconv.AppendBool(b, v), err
	case "!!int", "!!float":
		// YAML has numbers that JSON lacks, as 0x1F, 1_000 and .inf.
		if !json.Valid([]byte(n.Value)) {
			return b, fmt.Errorf("must have numbers in the form of JSON, got %.64q; write it as a text or as a decimal", n.Value)
		}
		return append(b, n.Value...), nil
	}
	return appendText(b, n.Value)
}

func appendText(b []byte, s string) ([]byte, error) {
	text, err := json.Marshal(s)
	return append(b, text...), err
}
