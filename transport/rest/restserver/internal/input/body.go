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

// Body is a JSON object as the body of a request. It keeps its decoding error for the operation, because the error
// that huma would send names no field.
type Body[In Wire[Out], Out any] struct {
	value In
	err   error
	given bool
}

// Schema describes the object.
func (Body[In, Out]) Schema(r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[In](), true, "")
}

// Value returns the object as a value of the domain. It refuses a request without a body.
func (b *Body[In, Out]) Value() (out Out, err error) {
	if !b.given && b.err == nil {
		return out, queue.Invalid("body", "must be a JSON object, got no body")
	}
	return b.Optional()
}

// Optional returns the object as a value of the domain, or that of the zero value without a body.
func (b *Body[In, Out]) Optional() (out Out, err error) {
	if b.err != nil {
		return out, b.err
	}
	return b.value.Domain()
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
		b.err = restapi.Decode(data, &b.value)
		dropNulls(media, &b.value)
	}
}

// Bodies is a JSON array, or NDJSON, of objects as the body of a request.
type Bodies[In interface {
	Wire[Out]
	restapi.Listed
}, Out any] struct {
	values []In
	err    error
	given  bool
}

// Schema describes the array; DocumentOperation of the server adds NDJSON.
func (Bodies[In, Out]) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, Items: r.Schema(reflect.TypeFor[In](), true, "")}
}

// Values returns the objects as values of the domain. An error names the place of its object.
func (b *Bodies[In, Out]) Values() ([]Out, error) {
	if b.err != nil {
		return nil, b.err
	}
	if !b.given {
		return nil, queue.Invalid("body", "must be a JSON array, got no body")
	}

	out := make([]Out, len(b.values))
	for i, v := range b.values {
		var err error
		if out[i], err = v.Domain(); err != nil {
			return nil, queue.At(fmt.Sprintf("%s[%d]", v.ListName(), i), err)
		}
	}
	return out, nil
}

func (b *Bodies[In, Out]) decode(media string, data []byte) {
	// NDJSON without a line is an empty list.
	b.given = len(data) > 0 || media == restapi.MediaNDJSON
	if media == restapi.MediaNDJSON {
		b.values, b.err = restapi.DecodeLines[In](data)
	} else {
		b.values, b.err = restapi.DecodeMany[In](data)
	}
	for i := range b.values {
		dropNulls(media, &b.values[i])
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
