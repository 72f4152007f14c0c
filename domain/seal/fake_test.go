package seal_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"sync/atomic"

	"github.com/pgqueue/pgqueue/domain/seal"
)

// fakeKeys wraps by an exclusive or, and counts. Its keys are those of the names, and the first one wraps.
type fakeKeys struct {
	names          []string
	salt           string // another salt gives other keys
	fail           error
	wraps, unwraps atomic.Int32
}

func (f *fakeKeys) mask(kid string, b []byte) []byte {
	sum := sha256.Sum256([]byte(f.salt + kid))
	masked := bytes.Clone(b)
	for i := range masked[:min(len(masked), len(sum))] {
		masked[i] ^= sum[i]
	}
	return masked
}

func (f *fakeKeys) check(kid string) []byte {
	sum := sha256.Sum256([]byte("check " + f.salt + kid))
	return sum[:8]
}

func (f *fakeKeys) Wrap(_ context.Context, dataKey []byte) (string, []byte, error) {
	f.wraps.Add(1)
	if f.fail != nil {
		return "", nil, f.fail
	}
	return f.names[0], append(f.mask(f.names[0], dataKey), f.check(f.names[0])...), nil
}

func (f *fakeKeys) Unwrap(_ context.Context, kid string, wrapped []byte) ([]byte, error) {
	f.unwraps.Add(1)
	if f.fail != nil {
		return nil, f.fail
	}
	for _, name := range f.names {
		if name == kid {
			if len(wrapped) != seal.DataKeyBytes+8 || !bytes.Equal(wrapped[seal.DataKeyBytes:], f.check(kid)) {
				return nil, seal.ErrWrongKey
			}
			return f.mask(kid, wrapped[:seal.DataKeyBytes]), nil
		}
	}
	return nil, seal.ErrUnknownKey
}
