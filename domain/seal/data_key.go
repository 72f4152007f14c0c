package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// nonceBytes is the length of a nonce of GCM.
const nonceBytes = 12

// errNotUnwrapped is the error of an unwrap that panicked.
var errNotUnwrapped = errors.New("the unwrap of the data key did not end")

// dataKey seals and opens.
type dataKey struct {
	aead cipher.AEAD
	// nonceKey gives the nonces of creates with a key.
	nonceKey []byte
	// head is the part of the envelope that names the key.
	head []byte
	born time.Time
	uses atomic.Int64
}

// newDataKey makes the ciphers of a key and erases its bytes. The ciphers keep what they derived from it.
func newDataKey(raw []byte, born time.Time) (*dataKey, error) {
	defer clear(raw)
	if len(raw) != DataKeyBytes {
		return nil, fmt.Errorf("%w: a data key has %d bytes", ErrWrongKey, DataKeyBytes)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	// A key of its own for nonces: the data key itself serves the cipher alone.
	derived := hmac.New(sha256.New, raw)
	derived.Write([]byte("pgqueue seal nonce 1"))
	return &dataKey{aead: aead, nonceKey: derived.Sum(nil), born: born}, nil
}

// makeNonce fills a nonce: by chance, or from the payload and its place, so that equal ones are sealed alike.
func (k *dataKey) makeNonce(nonce, clearText, place []byte, repeats bool) {
	if !repeats {
		_, _ = rand.Read(nonce) // it never fails
		return
	}
	mac := hmac.New(sha256.New, k.nonceKey)
	mac.Write(place) // its fields have their lengths
	mac.Write(clearText)
	copy(nonce, mac.Sum(nil))
}

// sealingKey gives the data key for new payloads.
type sealingKey struct {
	keys    KeyWrapper
	age     time.Duration
	maxUses int64
	now     func() time.Time

	present atomic.Pointer[dataKey]
	// renewing is held by the one caller that asks the wrapper.
	renewing chan struct{}
}

// get returns a data key with room for one more payload. From three quarters of its age on one caller at a time asks for the
// next one, so that a wrapper that fails for a while stops no create.
func (s *sealingKey) get(ctx context.Context) (*dataKey, error) {
	for {
		k := s.present.Load()
		usable := k != nil && s.now().Sub(k.born) < s.age && k.uses.Load() < s.maxUses
		// The last quarter of the age is the time in which a wrapper may fail without harm.
		if usable && s.now().Sub(k.born) < s.age*3/4 {
			k.uses.Add(1)
			return k, nil
		}

		if usable {
			select {
			case s.renewing <- struct{}{}:
			default: // another caller renews it
				k.uses.Add(1)
				return k, nil
			}
		} else {
			select {
			case s.renewing <- struct{}{}:
			case <-ctx.Done():
				return nil, queue.ContextError(ctx.Err())
			}
		}
		// Several callers may have waited for the turn; the first renews, the others find another key than k.
		err := s.renew(ctx, k)
		<-s.renewing
		switch {
		case err == nil:
		case usable: // the next create tries again
			k.uses.Add(1)
			return k, nil
		default:
			return nil, err
		}
	}
}

// renew replaces the data key old, unless another caller has done so.
func (s *sealingKey) renew(ctx context.Context, old *dataKey) error {
	if s.present.Load() != old {
		return nil
	}

	raw := make([]byte, DataKeyBytes)
	defer clear(raw)
	_, _ = rand.Read(raw) // it never fails
	kid, wrapped, err := s.keys.Wrap(ctx, raw)
	if err != nil {
		return &queue.Error{Kind: queue.KindUnavailable, Op: "seal", Msg: "the data key cannot be wrapped; repeat the call", Err: err}
	}
	if !isKeyID(kid) {
		return queue.Invalid("kid", fmt.Sprintf("must be 1 to %d bytes of visible ASCII, got %.64q; name the key otherwise", MaxKeyIDBytes, kid))
	}

	k, err := newDataKey(raw, s.now())
	if err != nil {
		return err
	}
	k.head = envelopeHead(kid, wrapped)
	s.present.Store(k)
	return nil
}

// openingKeys keeps the data keys that were unwrapped.
type openingKeys struct {
	keys KeyWrapper
	age  time.Duration
	most int
	now  func() time.Time

	mu   sync.Mutex
	name []byte // the one that a look-up compares
	// entries are named by the id of the wrapping key, a space and the wrapped key as the envelope has it.
	entries map[string]*openingEntry
}

// openingEntry is a data key, or its unwrap under way until done is closed.
type openingEntry struct {
	name string
	done chan struct{}
	key  *dataKey
	err  error
	born time.Time
}

// get returns the data key of an envelope. Callers that need the same one share a call of the wrapper.
func (o *openingKeys) get(ctx context.Context, f fields) (*dataKey, error) {
	for {
		entry, isNew := o.ensureEntry(f)
		if isNew {
			o.fillEntry(ctx, f, entry)
			return entry.key, entry.err
		}
		select {
		case <-entry.done:
		case <-ctx.Done():
			return nil, queue.ContextError(ctx.Err())
		}
		// The caller that unwrapped gave up by its own deadline; this one has time left and tries again.
		if !entry.isContextError() {
			return entry.key, entry.err
		}
		if ctx.Err() != nil {
			return nil, queue.ContextError(ctx.Err())
		}
	}
}

// isContextError reports whether the caller that unwrapped the key gave up, which says nothing about the key.
func (e *openingEntry) isContextError() bool {
	switch queue.KindOf(e.err) {
	case queue.KindCanceled, queue.KindDeadline:
		return true
	}
	return false
}

// ensureEntry returns the entry of a wrapped key, and whether the caller has to fill it.
func (o *openingKeys) ensureEntry(f fields) (entry *openingEntry, isNew bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	// The buffer lives on between calls, so that a look-up of a known key allocates nothing.
	o.name = append(append(append(o.name[:0], f.kid...), ' '), f.wrapped...)
	if entry = o.entries[string(o.name)]; entry != nil && now.Sub(entry.born) < o.age {
		return entry, false
	}

	if len(o.entries) >= o.most {
		o.dropOldest()
	}
	entry = &openingEntry{name: string(o.name), done: make(chan struct{}), born: now}
	o.entries[entry.name] = entry
	return entry, true
}

// dropOldest drops the entry that was made first. The caller holds mu.
func (o *openingKeys) dropOldest() {
	var oldest *openingEntry
	for _, entry := range o.entries {
		if oldest == nil || entry.born.Before(oldest.born) {
			oldest = entry
		}
	}
	delete(o.entries, oldest.name)
}

// fillEntry unwraps a key. A failed entry goes, so the next caller asks again.
func (o *openingKeys) fillEntry(ctx context.Context, f fields, entry *openingEntry) {
	// A panic of the wrapper leaves this error, so that callers that wait get an answer.
	entry.err = errNotUnwrapped
	defer func() {
		if entry.err != nil {
			o.mu.Lock()
			// It may have been dropped and made anew by another caller in the meantime.
			if o.entries[entry.name] == entry {
				delete(o.entries, entry.name)
			}
			o.mu.Unlock()
		}
		close(entry.done)
	}()

	wrapped, err := encoding.AppendDecode(nil, f.wrapped)
	if err != nil {
		entry.err = errEnvelope
		return
	}
	raw, err := o.keys.Unwrap(ctx, string(f.kid), wrapped)
	if err != nil {
		if ctx.Err() != nil {
			err = queue.ContextError(ctx.Err())
		}
		entry.err = err
		return
	}
	entry.key, entry.err = newDataKey(raw, entry.born)
}
