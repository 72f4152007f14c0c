package connectserver

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A call from a timer, or at the end of a context, may come after the handler has returned.
func TestLifelineOfAHandlerThatHasReturned(t *testing.T) {
	lines := make(chan *lifeline, 1)
	server := httptest.NewUnstartedServer((&Server{}).serveWithLifeline(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		lines <- lifelineOf(r.Context())
	})))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	server.Close()
	line := <-lines
	if line.stopReading() || line.stopWriting() {
		t.Error("it reached a connection")
	}
	if lifelineOf(t.Context()).stopReading() {
		t.Error("there is no connection")
	}
}
