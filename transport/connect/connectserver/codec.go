package connectserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pgqueue/pgqueue/domain/queue"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// strictJSON is the JSON codec of all protocols. It refuses unknown fields as REST does: a filter with a misspelt field
// would select all tasks. Binary protobuf ignores them, so programs of a newer version can use an older server; only filters and
// the requests that delete or move many tasks refuse them: see wire.Reader.RequireKnown.
type strictJSON struct{ *connectproto.JSONCodec }

func newStrictJSON() strictJSON {
	codec := connectproto.NewJSONCodec()
	codec.UnmarshalOptions.DiscardUnknown = false
	return strictJSON{codec}
}

// UnmarshalRead decodes src into msg. An error is of KindInvalid and names the field, as errors of REST do.
func (s strictJSON) UnmarshalRead(ctx context.Context, src io.Reader, msg any) error {
	var read beginning
	err := s.JSONCodec.UnmarshalRead(ctx, io.TeeReader(src, &read), msg)
	message, ok := msg.(proto.Message)
	if err == nil || !ok {
		return err
	}
	return describeDecodeError(err, read, message)
}

// maxBeginning bounds the bytes that are kept to name a field; an error behind them names none.
const maxBeginning = 64 << 10

// beginning keeps the first bytes that are written to it.
type beginning []byte

func (b *beginning) Write(p []byte) (int, error) {
	*b = append(*b, p[:min(len(p), maxBeginning-len(*b))]...)
	return len(p), nil
}

// The forms of the errors of protojson, which have no types. The blanks in them vary.
var (
	decodePosition = regexp.MustCompile(`\(line (\d+):(\d+)\):\s?`)
	unknownField   = regexp.MustCompile(`unknown field ("(?:[^"\\]|\\.)*")$`)
	wrongValue     = regexp.MustCompile(`invalid (?:value for (\S+) field \S+:|google\.protobuf\.(\S+) value) (.*)$`)
	jsonText       = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"(\s*:)?`)
)

// valueRules are the rules of the kinds of fields in the errors of protojson.
var valueRules = map[string]string{
	"int32": "a whole number", "int64": "a whole number", "uint32": "a whole number of 0 or more", "uint64": "a whole number of 0 or more",
	"double": "a number", "bool": "true or false", "string": "a text", "bytes": "bytes in base64", "enum": "one of the names in the proto",
	"Duration": `a duration in seconds such as "1.5s"`, "Timestamp": "a time such as 2026-01-02T15:04:05Z",
}

// describeDecodeError returns the error about JSON that does not decode as m.
func describeDecodeError(err error, body []byte, m proto.Message) error {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	if found := unknownField.FindStringSubmatch(text); found != nil {
		name := found[1]
		if plain, err := strconv.Unquote(name); err == nil {
			name = plain
		}

		return &queue.Error{
			Kind: queue.KindInvalid, Field: strings.ToValidUTF8(name[:min(len(name), maxFieldName)], ""),
			Msg: "must be a field of this message, got an unknown field; " + suggestField(name, m.ProtoReflect().Descriptor()), Err: err,
		}
	}

	at := decodePosition.FindStringSubmatchIndex(text)
	found := wrongValue.FindStringSubmatch(text)
	if at == nil || found == nil {
		return err
	}

	rule := valueRules[found[1]+found[2]]
	if rule == "" {
		rule = "as the proto says"
	}
	return &queue.Error{
		Kind: queue.KindInvalid, Field: fieldBefore(body, text[at[2]:at[3]], text[at[4]:at[5]]),
		Msg: fmt.Sprintf("must be %s, got %.64s", rule, found[3]), Err: err,
	}
}

// suggestField returns the remedy for an unknown field: a similar name, or the fields of the message. It does not suggest a name
// that the message has at another place.
func suggestField(name string, m protoreflect.MessageDescriptor) string {
	known := appendFieldNames(nil, m, nil)
	if similar := queue.SuggestName(name, known); similar != "" && !slices.Contains(known, name) {
		return strings.TrimPrefix(similar, "; ")
	}

	var fields []string
	for i := range m.Fields().Len() {
		fields = append(fields, m.Fields().Get(i).JSONName())
	}
	if len(fields) == 0 {
		return "the message has none"
	}
	return "the message takes " + strings.Join(fields, ", ")
}

// fieldBefore returns the last name of a field in body before a position, or "" if body ends before it.
func fieldBefore(body []byte, line, column string) (name string) {
	lines, err := strconv.Atoi(line)
	offset, err2 := strconv.Atoi(column)
	if err != nil || err2 != nil {
		return ""
	}

	// protojson counts lines from 1. Its columns are characters: in a line that is not ASCII an earlier field may be named.
	begin := 0
	for range lines - 1 {
		begin += bytes.IndexByte(body[begin:], '\n') + 1
	}
	if begin+offset > len(body) {
		return ""
	}

	// A text with a colon behind it is a name.
	for _, found := range jsonText.FindAllSubmatch(body[:begin+offset], -1) {
		if len(found[2]) > 0 {
			name = string(found[1])
		}
	}
	return strings.ToValidUTF8(name[:min(len(name), maxFieldName)], "")
}

// maxFieldName is how many bytes of an unknown name an error repeats.
const maxFieldName = 64

// appendFieldNames appends the names of the fields of m and of all messages in it, as the proto and as JSON spell them.
func appendFieldNames(names []string, m protoreflect.MessageDescriptor, within []protoreflect.FullName) []string {
	if slices.Contains(within, m.FullName()) || m.ParentFile().Package() != pb.File_pgqueue_v1_task_proto.Package() {
		return names
	}
	within = append(within, m.FullName())

	for i := range m.Fields().Len() {
		field := m.Fields().Get(i)
		names = append(names, field.TextName(), field.JSONName())
		if field.Message() != nil && !field.IsMap() {
			names = appendFieldNames(names, field.Message(), within)
		}
	}
	return names
}
