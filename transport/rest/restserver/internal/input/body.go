package input

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
)

// Refusal is an error of HTTP alone: its status replaces the status of its kind.
type Refusal struct {
	Cause  *queue.Error
	Status int
}

func (r Refusal) Error() string { return r.Cause.Error() }

// Unwrap returns the domain error.
func (r Refusal) Unwrap() error { return r.Cause }

// Wire is a body that converts to a value of the domain.
type Wire[Out any] interface{ Domain() (Out, error) }

// Checked is a body that was decoded and must be checked before use. The field Body of each input struct is one.
type Checked interface {
	// Check converts the body to a value of the domain. optional allows a request without a body.
	Check(optional bool) error
}

// Body is a JSON object as the body of a request. It keeps its decoding error for Check, because the error that huma
// would send names no field.
type Body[In Wire[Out], Out any] struct {
	// Value is the object as a value of the domain, after Check.
	Value Out

	wire  In
	err   error // of the decoding
	given bool
}

// With is the input of an operation with a body alone.
type With[In Wire[Out], Out any] struct{ Body Body[In, Out] }

// Schema describes the object.
func (Body[In, Out]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[In](), true, "")
}

// Check implements Checked. Without a body Value is that of the empty object.
func (b *Body[In, Out]) Check(optional bool) (err error) {
	switch {
	case b.err != nil:
		return b.err
	case !b.given && !optional:
		return queue.Invalid("body", "must be a JSON object, got no body")
	}
	b.Value, err = b.wire.Domain()
	return err
}

func (b *Body[In, Out]) decode(media string, data []byte) {
	if media == restapi.MediaNDJSON {
		b.err = Refusal{
			Cause:  queue.Invalid("Content-Type", "must be "+restapi.MediaJSON+", got "+restapi.Shorten(media)+"; send NDJSON to the routes of batches"),
			Status: http.StatusUnsupportedMediaType,
		}
		return
	}
	if b.given = len(data) > 0; b.given {
		b.err = restapi.Decode(data, &b.wire)
		dropNulls(media, &b.wire)
	}
}

// Bodies is a JSON array, or NDJSON, of objects as the body of a request.
type Bodies[In interface {
	Wire[Out]
	restapi.Listed
}, Out any] struct {
	// Values are the objects as values of the domain, after Check.
	Values []Out

	wires []In
	err   error // of the decoding
	given bool
}

// Schema describes the array; DocumentOperation of the server adds NDJSON.
func (Bodies[In, Out]) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, Items: r.Schema(reflect.TypeFor[In](), true, "")}
}

// Check implements Checked. A list is never optional. An error names the place of its object.
func (b *Bodies[In, Out]) Check(bool) (err error) {
	switch {
	case b.err != nil:
		return b.err
	case !b.given:
		return queue.Invalid("body", "must be a JSON array, got no body")
	}

	b.Values = make([]Out, len(b.wires))
	for i, w := range b.wires {
		if b.Values[i], err = w.Domain(); err != nil {
			return queue.At(fmt.Sprintf("%s[%d]", w.ListName(), i), err)
		}
	}
	return nil
}

func (b *Bodies[In, Out]) decode(media string, data []byte) {
	// NDJSON without a line is an empty list.
	b.given = len(data) > 0 || media == restapi.MediaNDJSON
	if media == restapi.MediaNDJSON {
		b.wires, b.err = restapi.DecodeLines[In](data)
	} else {
		b.wires, b.err = restapi.DecodeMany[In](data)
	}
	for i := range b.wires {
		dropNulls(media, &b.wires[i])
	}
}

func dropNulls(media string, v any) {
	if d, ok := v.(restapi.NullDropper); ok && media != restapi.MediaExactJSON {
		d.DropNulls()
	}
}

// Decoder returns the huma format of a media type of requests. Decoding never fails for huma: the body keeps its
// error. Payloads, results and progress stay as written, with their white space.
func Decoder(media string) func(data []byte, v any) error {
	return func(data []byte, v any) error {
		body, ok := v.(interface {
			decode(media string, data []byte)
		})
		if !ok {
			return fmt.Errorf("input: %T is not a body", v)
		}
		body.decode(media, bytes.TrimSpace(data))
		return nil
	}
}
