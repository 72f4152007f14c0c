package seal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Defaults of a codec.
const (
	// DefaultKeyAge is the longest time that a codec uses one data key, and keeps one that it has unwrapped.
	DefaultKeyAge = time.Hour
	// DefaultKeyUses is the most payloads that a codec seals with one data key, far below the 2³² at which nonces by chance
	// may meet.
	DefaultKeyUses = 1 << 24
	// DefaultOpenedKeys is the most data keys that a codec keeps unwrapped.
	DefaultOpenedKeys = 1_000
)

// Codec seals and opens. It is safe for concurrent use. Make one with New.
type Codec struct {
	sealing sealingKey
	opening openingKeys
	options options
}

// options are the values of the options.
type options struct {
	keyAge      time.Duration
	keyUses     int64
	openedKeys  int
	acceptClear bool
	acceptFrom  []string
	sealResults bool
	now         func() time.Time
}

// Option configures a codec.
type Option func(*options)

// WithKeyAge sets the age of data keys: at least a second. A shorter one has the wrapper called more often.
func WithKeyAge(d time.Duration) Option { return func(o *options) { o.keyAge = max(d, time.Second) } }

// WithKeyUses sets the most payloads for one data key: 1 to DefaultKeyUses.
func WithKeyUses(n int) Option {
	return func(o *options) { o.keyUses = min(max(int64(n), 1), DefaultKeyUses) }
}

// WithOpenedKeys sets the most data keys that the codec keeps unwrapped: at least 1.
func WithOpenedKeys(n int) Option { return func(o *options) { o.openedKeys = max(n, 1) } }

// AcceptClear lets handlers work clear payloads too, as while producers begin to seal. Without it a clear payload is refused,
// because anyone with access to the database could write one.
func AcceptClear() Option { return func(o *options) { o.acceptClear = true } }

// AcceptFrom lets handlers open payloads that were sealed for another queue of the namespace: that of a dead letter holds
// payloads of the queues that name it.
func AcceptFrom(queues ...string) Option {
	return func(o *options) { o.acceptFrom = append(o.acceptFrom, queues...) }
}

// SealResults has handlers seal their results. A Service opens them for the producer.
func SealResults() Option { return func(o *options) { o.sealResults = true } }

// New returns a codec over the keys of a wrapper.
func New(keys KeyWrapper, opts ...Option) *Codec {
	o := options{keyAge: DefaultKeyAge, keyUses: DefaultKeyUses, openedKeys: DefaultOpenedKeys, now: time.Now}
	for _, opt := range opts {
		opt(&o)
	}
	return &Codec{
		sealing: sealingKey{keys: keys, age: o.keyAge, maxUses: o.keyUses, now: o.now, renewing: make(chan struct{}, 1)},
		opening: openingKeys{keys: keys, age: o.keyAge, most: o.openedKeys, now: o.now, entries: map[string]*openingEntry{}},
		options: o,
	}
}

// Seal returns clearText sealed for place. KindUnavailable while the wrapper fails and the codec has no data key that is
// still good.
func (c *Codec) Seal(ctx context.Context, place Place, clearText json.RawMessage) (json.RawMessage, error) {
	return c.seal(ctx, place, clearText, false)
}

// SealRepeatably is Seal with a nonce that follows from the text: while the codec uses one data key, equal texts of one
// place have equal sealed bytes, which shows that they are equal.
func (c *Codec) SealRepeatably(ctx context.Context, place Place, clearText json.RawMessage) (json.RawMessage, error) {
	return c.seal(ctx, place, clearText, true)
}

func (c *Codec) seal(ctx context.Context, place Place, clearText json.RawMessage, repeats bool) (json.RawMessage, error) {
	k, err := c.sealing.get(ctx)
	if err != nil {
		return nil, err
	}
	// One buffer has the bound data, the nonce and the ciphertext, so that a seal allocates the envelope alone.
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)

	boundLen := place.boundBytes()
	buffer := slices.Grow((*pooled)[:0], boundLen+nonceBytes+len(clearText)+k.aead.Overhead())
	bound := place.appendBound(buffer)
	nonce := buffer[boundLen : boundLen+nonceBytes]
	k.makeNonce(nonce, clearText, bound, repeats)
	ciphertext := k.aead.Seal(nonce[nonceBytes:], nonce, clearText, bound)
	// A pool of large buffers would keep the memory of the largest payloads.
	if cap(buffer) <= maxPooled {
		*pooled = buffer
	}
	return appendEnvelope(k.head, nonce, ciphertext), nil
}

// buffers are for ciphertexts, which are encoded at once.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxPooled bounds the buffers that are kept.
const maxPooled = 64 << 10

// Open returns the clear text of bytes that were sealed for place. The error is an *Error when they do not open here, and of
// KindUnavailable while the wrapper cannot answer.
func (c *Codec) Open(ctx context.Context, place Place, sealed json.RawMessage) (json.RawMessage, error) {
	f, err := parseEnvelope(sealed)
	if err != nil {
		reason := ReasonEnvelope
		// A clear payload has a reason of its own: AcceptClear would let it pass.
		if !isSealed(sealed) {
			reason = ReasonClear
		}
		return nil, &Error{Reason: reason, KeyID: string(f.kid), Err: err}
	}

	k, err := c.opening.get(ctx, f)
	switch {
	case errors.Is(err, ErrUnknownKey):
		return nil, &Error{Reason: ReasonUnknownKey, KeyID: string(f.kid), Err: err}
	case errors.Is(err, ErrWrongKey):
		return nil, &Error{Reason: ReasonWrongKey, KeyID: string(f.kid), Err: err}
	case errors.Is(err, errEnvelope):
		return nil, &Error{Reason: ReasonEnvelope, KeyID: string(f.kid), Err: err}
	case err != nil:
		return nil, &queue.Error{Kind: queue.KindUnavailable, Op: "open", Subject: fmt.Sprintf("key %.64q", f.kid), Msg: "the data key cannot be unwrapped now; try again later", Err: err}
	}
	return k.open(place, f)
}

// open decodes and decrypts, in one buffer.
func (k *dataKey) open(place Place, f fields) (json.RawMessage, error) {
	textLen := encoding.DecodedLen(len(f.ciphertext))
	buffer := make([]byte, textLen+nonceBytes, textLen+nonceBytes+place.boundBytes())
	n, err := encoding.Decode(buffer, f.ciphertext)
	nonce := buffer[textLen:]
	if err == nil {
		_, err = encoding.Decode(nonce, f.nonce)
	}
	if err != nil {
		return nil, &Error{Reason: ReasonEnvelope, KeyID: string(f.kid), Err: err}
	}

	bound := place.appendBound(buffer)[len(buffer):]
	clearText, err := k.aead.Open(buffer[:0], nonce, buffer[:n], bound)
	if err != nil {
		return nil, &Error{Reason: ReasonChanged, KeyID: string(f.kid), Err: err}
	}
	return slices.Clip(clearText), nil
}

// SealedBytes returns the most bytes that a text of n bytes takes when it is sealed, with a wrapped data key of 64 bytes and a key id of
// 32.
func SealedBytes(n int) int {
	const frame = 256
	return frame + encoding.EncodedLen(n+16)
}
