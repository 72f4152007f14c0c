package seal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/seal"
)

var (
	here      = seal.Place{Namespace: "default", Queue: "mail", Group: "g", Purpose: seal.PurposePayload}
	clearText = json.RawMessage(`{"to":"ann@example.com","n":17}`)
)

// mustSeal seals clearText for here.
func mustSeal(t *testing.T, c *seal.Codec) json.RawMessage {
	t.Helper()
	sealed, err := c.Seal(t.Context(), here, clearText)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// reasonOf returns the reason of an error, "" when it has none.
func reasonOf(err error) seal.Reason {
	if e, ok := errors.AsType[*seal.Error](err); ok && e.ErrorKind() == seal.ErrorKind {
		return e.Reason
	}
	return ""
}

func TestRoundTrip(t *testing.T) {
	c := seal.New(&fakeKeys{names: []string{"k1"}})
	for _, text := range []string{`{}`, `null`, `""`, `17`, string(clearText), `"` + strings.Repeat("a", 1<<20-2) + `"`} {
		sealed, err := c.Seal(t.Context(), here, json.RawMessage(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := queue.CheckJSON("payload", sealed, 2<<20); err != nil {
			t.Fatal(err)
		}
		if len(sealed) > seal.SealedBytes(len(text)) || len(text) > 2 && bytes.Contains(sealed, []byte(text)) {
			t.Errorf("%.20s: %d bytes, at most %d", text, len(sealed), seal.SealedBytes(len(text)))
		}
		opened, err := c.Open(t.Context(), here, sealed)
		if err != nil || string(opened) != text {
			t.Errorf("%.20s: got %.20s, %v", text, opened, err)
		}
	}
	if one, two := mustSeal(t, c), mustSeal(t, c); bytes.Equal(one, two) {
		t.Error("two sealed payloads are equal")
	}
}

// TestOtherSpelling: a store of jsonb gives members in another order and with spaces.
func TestOtherSpelling(t *testing.T) {
	c := seal.New(&fakeKeys{names: []string{"k1"}})
	var outer map[string]map[string]any
	if err := json.Unmarshal(mustSeal(t, c), &outer); err != nil {
		t.Fatal(err)
	}
	spelled, err := json.MarshalIndent(outer, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := c.Open(t.Context(), here, spelled); err != nil || !bytes.Equal(opened, clearText) {
		t.Errorf("got %s, %v", opened, err)
	}
}

// TestChangedByte: no changed byte of an envelope opens.
func TestChangedByte(t *testing.T) {
	c := seal.New(&fakeKeys{names: []string{"k1", "k2"}})
	sealed := mustSeal(t, c)
	for i := range sealed {
		for _, bit := range []byte{1, 2, 4, 32, 128} {
			changed := bytes.Clone(sealed)
			changed[i] ^= bit
			if opened, err := c.Open(t.Context(), here, changed); err == nil {
				t.Errorf("byte %d of %s changed to %q opens as %s", i, sealed, changed[i], opened)
			} else if reasonOf(err) == "" {
				t.Errorf("byte %d: %v", i, err)
			}
		}
	}
	for n := range sealed {
		if _, err := c.Open(t.Context(), here, sealed[:n]); reasonOf(err) == "" {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestOtherPlace: a payload opens in its own place alone, also when the names of two places read the same side by side.
func TestOtherPlace(t *testing.T) {
	c := seal.New(&fakeKeys{names: []string{"k1"}})
	sealed := mustSeal(t, c)
	for _, place := range []seal.Place{
		{Namespace: "other", Queue: "mail", Group: "g", Purpose: seal.PurposePayload},
		{Namespace: "default", Queue: "other", Group: "g", Purpose: seal.PurposePayload},
		{Namespace: "default", Queue: "mail", Group: "", Purpose: seal.PurposePayload},
		{Namespace: "default", Queue: "mail", Group: "g", Purpose: seal.PurposeResult},
		{Namespace: "default", Queue: "mailg", Purpose: seal.PurposePayload},
		{Namespace: "defaultm", Queue: "ail", Group: "g", Purpose: seal.PurposePayload},
	} {
		if _, err := c.Open(t.Context(), place, sealed); reasonOf(err) != seal.ReasonChanged {
			t.Errorf("%+v: %v", place, err)
		}
	}
}

func TestKeys(t *testing.T) {
	old := seal.New(&fakeKeys{names: []string{"k1"}})
	sealed := mustSeal(t, old)

	rotated := seal.New(&fakeKeys{names: []string{"k2", "k1"}})
	if opened, err := rotated.Open(t.Context(), here, sealed); err != nil || !bytes.Equal(opened, clearText) {
		t.Errorf("after a rotation: %s, %v", opened, err)
	}
	if !bytes.Contains(mustSeal(t, rotated), []byte(`"kid":"k2"`)) {
		t.Error("the first key does not wrap")
	}
	if _, err := old.Open(t.Context(), here, mustSeal(t, rotated)); reasonOf(err) != seal.ReasonUnknownKey {
		t.Errorf("an unknown key: %v", err)
	}
	if _, err := seal.New(&fakeKeys{names: []string{"k1"}, salt: "x"}).Open(t.Context(), here, sealed); reasonOf(err) != seal.ReasonWrongKey {
		t.Errorf("a wrong key: %v", err)
	}

	down := seal.New(&fakeKeys{names: []string{"k1"}, fail: errors.New("down")})
	if _, err := down.Open(t.Context(), here, sealed); queue.KindOf(err) != queue.KindUnavailable {
		t.Errorf("a wrapper that fails: %v", err)
	}
	if _, err := down.Seal(t.Context(), here, clearText); queue.KindOf(err) != queue.KindUnavailable {
		t.Errorf("a wrapper that fails: %v", err)
	}
	for _, name := range []string{"", "a b", `a"b`, "é", strings.Repeat("x", 256)} {
		if _, err := seal.New(&fakeKeys{names: []string{name}}).Seal(t.Context(), here, clearText); queue.KindOf(err) != queue.KindInvalid {
			t.Errorf("key %q: %v", name, err)
		}
	}
}

func TestWrongEnvelopes(t *testing.T) {
	c := seal.New(&fakeKeys{names: []string{"k1"}})
	for text, want := range map[string]seal.Reason{
		`{}`: seal.ReasonClear, `"$enc"`: seal.ReasonClear, ``: seal.ReasonClear, `{"$enc":{},"a":1}`: seal.ReasonEnvelope, `{"a":{"$enc":1}}`: seal.ReasonClear,
		`{"$enc":{}}`: seal.ReasonEnvelope, `{"$enc":1}`: seal.ReasonEnvelope, `{ "$enc": null }`: seal.ReasonEnvelope,
		`{"$enc":{"v":2,"kid":"k1","dek":"AA==","n":"AAAAAAAAAAAAAAAA","ct":""}}`:           seal.ReasonEnvelope,
		`{"$enc":{"v":1,"kid":"k1","dek":"AA==","n":"AAAA","ct":""}}`:                       seal.ReasonEnvelope,
		`{"$enc":{"v":1,"kid":"k1","dek":"","n":"AAAAAAAAAAAAAAAA","ct":""}}`:               seal.ReasonEnvelope,
		`{"$enc":{"v":1,"kid":"k1","dek":"AA==","n":"AAAAAAAAAAAAAAAA","ct":"","x":1}}`:     seal.ReasonEnvelope,
		`{"$enc":{"v":1,"kid":"k1","dek":"AB==","n":"AAAAAAAAAAAAAAAA","ct":""}}`:           seal.ReasonEnvelope,
		`{"$enc":{"v":1,"kid":"k1","dek":"A\nA==","n":"AAAAAAAAAAAAAAAA","ct":""}}`:         seal.ReasonEnvelope,
		`{"$enc":{"v":1,"kid":"k1","dek":"AA==","n":"AAAAAAAAAAAAAAAA","ct":""}}`:           seal.ReasonWrongKey,
		`{"$enc":{"v":1,"kid":"nope","dek":"AA==","n":"AAAAAAAAAAAAAAAA","ct":""}}`:         seal.ReasonUnknownKey,
		`{"$enc":{"v":1,"kid":"a\u0022b","dek":"AA==","n":"AAAAAAAAAAAAAAAA","ct":"AAAA"}}`: seal.ReasonEnvelope,
	} {
		if _, err := c.Open(t.Context(), here, json.RawMessage(text)); reasonOf(err) != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// TestDataKeys: a data key lasts for its age and its uses, and the wrapper is called once for each.
func TestDataKeys(t *testing.T) {
	keys := &fakeKeys{names: []string{"k1"}}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := seal.New(keys, seal.WithClock(func() time.Time { return now }), seal.WithKeyUses(3), seal.WithOpenedKeys(2))

	var sealed []json.RawMessage
	for range 7 {
		sealed = append(sealed, mustSeal(t, c))
	}
	if n := keys.wraps.Load(); n != 3 {
		t.Errorf("%d wraps for 7 payloads with 3 each", n)
	}
	for range 2 {
		for _, s := range sealed[3:] {
			if _, err := c.Open(t.Context(), here, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := keys.unwraps.Load(); n != 2 {
		t.Errorf("%d unwraps for two data keys", n)
	}
	if _, err := c.Open(t.Context(), here, sealed[0]); err != nil || keys.unwraps.Load() != 3 {
		t.Errorf("%d unwraps, %v", keys.unwraps.Load(), err)
	}

	now = now.Add(46 * time.Minute) // beyond three quarters of its age
	keys.fail = errors.New("down")
	mustSeal(t, c)
	now = now.Add(14 * time.Minute)
	if _, err := c.Seal(t.Context(), here, clearText); queue.KindOf(err) != queue.KindUnavailable {
		t.Errorf("a data key of an hour still seals: %v", err)
	}
	if _, err := c.Open(t.Context(), here, sealed[0]); queue.KindOf(err) != queue.KindUnavailable {
		t.Errorf("a data key of an hour still opens: %v", err)
	}
	keys.fail = nil
	mustSeal(t, c)
}

// TestOneCall: callers that need a data key at the same time share a call of the wrapper.
func TestOneCall(t *testing.T) {
	keys := &fakeKeys{names: []string{"k1"}}
	c := seal.New(keys)
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			sealed, err := c.Seal(t.Context(), here, clearText)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := c.Open(t.Context(), here, sealed); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if keys.wraps.Load() != 1 || keys.unwraps.Load() != 1 {
		t.Errorf("%d wraps, %d unwraps", keys.wraps.Load(), keys.unwraps.Load())
	}
}

// TestRepeatable: equal payloads of a place are sealed alike for a create with a key, and others are not.
func TestRepeatable(t *testing.T) {
	c := seal.New(&fakeKeys{names: []string{"k1"}})
	of := func(place seal.Place, text string) string {
		t.Helper()
		sealed, err := c.SealRepeatably(t.Context(), place, json.RawMessage(text))
		if err != nil {
			t.Fatal(err)
		}
		return string(sealed)
	}
	other := here
	other.Group = "h"
	first := of(here, `1`)
	if first != of(here, `1`) {
		t.Error("equal payloads differ")
	}
	if first == of(here, `2`) || first == of(other, `1`) {
		t.Error("other payloads are equal")
	}
}

// TestEndOfCaller: a caller that waits for the wrapper leaves with its context.
func TestEndOfCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	slow := &slowKeys{fakeKeys: fakeKeys{names: []string{"k1"}}, called: make(chan struct{}), free: make(chan struct{})}
	c := seal.New(slow)
	done := make(chan error, 1)
	go func() {
		_, err := c.Seal(context.Background(), here, clearText)
		done <- err
	}()
	<-slow.called
	if _, err := c.Seal(ctx, here, clearText); queue.KindOf(err) != queue.KindCanceled {
		t.Errorf("got %v", err)
	}
	close(slow.free)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// slowKeys waits in Wrap.
type slowKeys struct {
	fakeKeys
	called, free chan struct{}
}

func (s *slowKeys) Wrap(ctx context.Context, dataKey []byte) (string, []byte, error) {
	close(s.called)
	<-s.free
	return s.fakeKeys.Wrap(ctx, dataKey)
}

// FuzzOpen: any bytes give an error of the package, and never a text.
func FuzzOpen(f *testing.F) {
	c := seal.New(&fakeKeys{names: []string{"k1"}})
	sealed, err := c.Seal(context.Background(), here, clearText)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(sealed))
	f.Add(`{"$enc":{"v":1,"kid":"k1","dek":"AA==","n":"AAAAAAAAAAAAAAAA","ct":""}}`)
	f.Add(`{"a":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		opened, err := c.Open(t.Context(), here, json.RawMessage(text))
		if err == nil && !bytes.Equal(opened, clearText) || err != nil && reasonOf(err) == "" {
			t.Fatalf("%q: got %q, %v", text, opened, err)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Fatalf("%q: a message of %d bytes", text, len(err.Error()))
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	c := seal.New(&fakeKeys{names: []string{"k1"}})
	text := json.RawMessage(`"` + strings.Repeat("a", 1022) + `"`)
	sealed, err := c.Seal(b.Context(), here, text)
	if err != nil {
		b.Fatal(err)
	}
	for name, run := range map[string]func() error{
		"seal":            func() error { _, err := c.Seal(b.Context(), here, text); return err },
		"seal repeatably": func() error { _, err := c.SealRepeatably(b.Context(), here, text); return err },
		"open":            func() error { _, err := c.Open(b.Context(), here, sealed); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if err := run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
