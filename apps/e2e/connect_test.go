package e2e_test

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/pgqueue/pgqueue/adapters/memory"
	"github.com/pgqueue/pgqueue/domain/manager"
	"github.com/pgqueue/pgqueue/transport/connect/connectserver"
)

// serveConnect serves the Connect API of a manager over memory, as a server does, and returns its URL.
func serveConnect(t *testing.T) string {
	t.Helper()
	m, err := manager.New(memory.New())
	if err != nil {
		t.Fatal(err)
	}
	s, err := connectserver.New(m)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	s.Mount(mux)
	h := &http.Server{Handler: mux, Protocols: new(http.Protocols)}
	h.Protocols.SetHTTP1(true)
	h.Protocols.SetUnencryptedHTTP2(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = h.Serve(l)
	}()
	t.Cleanup(func() {
		s.Drain()
		_ = h.Close()
		<-served
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}
