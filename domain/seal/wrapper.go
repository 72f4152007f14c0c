package seal

import (
	"context"
	"errors"
)

// DataKeyBytes is the length of a data key.
const DataKeyBytes = 32

// KeyWrapper wraps data keys with keys that it keeps to itself. It is safe for concurrent use.
type KeyWrapper interface {
	// Wrap encrypts a data key with the present key, and returns the name of that key: 1 to 255 bytes of visible ASCII. It must not keep
	// dataKey.
	Wrap(ctx context.Context, dataKey []byte) (kid string, wrapped []byte, err error)
	// Unwrap returns the data key that Wrap encrypted. The error is ErrUnknownKey for a key that the wrapper does not have, and
	// ErrWrongKey when wrapped does not open with it. Any other error means that the wrapper cannot answer now.
	Unwrap(ctx context.Context, kid string, wrapped []byte) (dataKey []byte, err error)
}

// The errors of a KeyWrapper that concern a payload.
var (
	// ErrUnknownKey: the wrapper does not have the key.
	ErrUnknownKey = errors.New("seal: unknown key")
	// ErrWrongKey: the wrapped data key does not open with the key of that name.
	ErrWrongKey = errors.New("seal: wrong key")
)
