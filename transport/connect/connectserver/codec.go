package connectserver

import (
	"context"
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
// would select all tasks. Binary protobuf ignores them, so programs of a newer version can use an older server.
type strictJSON struct{ *connectproto.JSONCodec }

func newStrictJSON() strictJSON {
	codec := connectproto.NewJSONCodec()
	codec.UnmarshalOptions.DiscardUnknown = false
	return strictJSON{codec}
}

// unknownField finds the quoted name in the error of protojson, which has no type for it.
var unknownField = regexp.MustCompile(`unknown field ("(?:[^"\\]|\\.)*")$`)

// UnmarshalRead decodes src into msg. The error about an unknown field is of KindInvalid and names the field.
func (s strictJSON) UnmarshalRead(ctx context.Context, src io.Reader, msg any) error {
	err := s.JSONCodec.UnmarshalRead(ctx, src, msg)
	if err == nil {
		return nil
	}

	found := unknownField.FindStringSubmatch(err.Error())
	message, ok := msg.(proto.Message)
	if found == nil || !ok {
		return err
	}

	name := found[1]
	if plain, err := strconv.Unquote(name); err == nil {
		name = plain
	}
	known := appendFieldNames(nil, message.ProtoReflect().Descriptor(), nil)
	return &queue.Error{
		Kind: queue.KindInvalid, Field: strings.ToValidUTF8(name[:min(len(name), maxFieldName)], ""),
		Msg: "must be a field of this message, got an unknown field" + queue.SuggestName(name, known), Err: err,
	}
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
