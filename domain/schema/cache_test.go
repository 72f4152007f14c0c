package schema_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/domain/schema"
)

// fakeCompiler counts compiles. A source of "bad" fails.
type fakeCompiler struct {
	compiles atomic.Int32
	gate     chan struct{} // when set, a compile waits for it
}

type fakeSchema struct{ bytes int }

func (c *fakeCompiler) Compile(_ context.Context, source json.RawMessage) (schema.Schema, error) {
	c.compiles.Add(1)
	if c.gate != nil {
		<-c.gate
	}
	if string(source) == "bad" {
		return nil, queue.Invalid("schema", "must be good, got bad; correct it")
	}
	return fakeSchema{len(source)}, nil
}

func (fakeSchema) Validate(context.Context, json.RawMessage) (schema.Report, error) {
	return schema.Report{}, nil
}
func (s fakeSchema) Bytes() int { return s.bytes }

// give returns a load of source.
func give(source string) func(context.Context) (json.RawMessage, error) {
	return func(context.Context) (json.RawMessage, error) { return json.RawMessage(source), nil }
}

func TestCacheKeepsTheLastUsed(t *testing.T) {
	compiler := &fakeCompiler{}
	cache := schema.NewCache(compiler, 2, 0)
	get := func(version int64) {
		t.Helper()
		if _, err := cache.Get(t.Context(), schema.Key{Queue: 1, Version: version}, give("{}")); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range []int64{1, 2, 1, 3, 1} {
		get(version)
	}
	if n := compiler.compiles.Load(); n != 3 || cache.Len() != 2 {
		t.Errorf("%d compiles, %d entries", n, cache.Len())
	}
	get(2)
	if n := compiler.compiles.Load(); n != 4 {
		t.Errorf("%d compiles", n)
	}
}

func TestCacheIsBoundedInBytes(t *testing.T) {
	compiler := &fakeCompiler{}
	cache := schema.NewCache(compiler, 0, 10)
	for i := range 5 {
		if _, err := cache.Get(t.Context(), schema.Key{Queue: int64(i)}, give("12345")); err != nil {
			t.Fatal(err)
		}
	}
	if cache.Len() != 2 {
		t.Errorf("%d entries", cache.Len())
	}
	if _, err := cache.Get(t.Context(), schema.Key{Queue: 9}, give("a schema of more than 10 bytes")); err != nil || cache.Len() != 1 {
		t.Errorf("%d entries, %v", cache.Len(), err)
	}
}

func TestCacheCompilesOnce(t *testing.T) {
	compiler := &fakeCompiler{gate: make(chan struct{})}
	cache := schema.NewCache(compiler, 0, 0)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := cache.Get(t.Context(), schema.Key{Queue: 1}, give("{}")); err != nil {
				t.Error(err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if compiler.compiles.Load() > 0 {
		if _, err := cache.Get(ctx, schema.Key{Queue: 1}, give("{}")); queue.KindOf(err) != queue.KindCanceled {
			t.Errorf("got %v", err)
		}
	}
	close(compiler.gate)
	group.Wait()
	if n := compiler.compiles.Load(); n != 1 {
		t.Errorf("%d compiles", n)
	}
}

func TestCacheKeepsNoError(t *testing.T) {
	compiler := &fakeCompiler{}
	cache := schema.NewCache(compiler, 0, 0)
	lost := errors.New("lost")
	if _, err := cache.Get(t.Context(), schema.Key{}, func(context.Context) (json.RawMessage, error) { return nil, lost }); !errors.Is(err, lost) {
		t.Errorf("got %v", err)
	}
	if _, err := cache.Get(t.Context(), schema.Key{}, give("bad")); queue.KindOf(err) != queue.KindInvalid {
		t.Errorf("got %v", err)
	}
	if cache.Len() != 0 {
		t.Errorf("%d entries", cache.Len())
	}
	if _, err := cache.Get(t.Context(), schema.Key{}, give("{}")); err != nil || cache.Len() != 1 {
		t.Errorf("%d entries, %v", cache.Len(), err)
	}
}
