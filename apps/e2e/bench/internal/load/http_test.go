package load

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestConn checks the small client against the answers of a real HTTP/1.1 server.
func TestConn(t *testing.T) {
	long := strings.Repeat("0123456789", 20_000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		switch r.URL.Path {
		case "/echo":
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, r.Method+" "+string(body))
		case "/chunks":
			for part := range strings.SplitSeq(long, "9") {
				_, _ = io.WriteString(w, part+"9")
				_ = http.NewResponseController(w).Flush()
			}
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/close":
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	c, err := dial(t.Context(), server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, x := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/echo", `{"n":1}`, http.StatusCreated, `POST {"n":1}`},
		{"PUT", "/echo", "", http.StatusCreated, "PUT "},
		{"GET", "/chunks", "", http.StatusOK, long + "9"},
		{"DELETE", "/none", "", http.StatusNoContent, ""},
		{"POST", "/echo", long, http.StatusCreated, "POST " + long}, // the connection still works
	} {
		status, body, err := c.do(x.method, x.path, []byte(x.body))
		if err != nil || status != x.status || string(body) != x.want {
			t.Errorf("%s %s: status %d, %d bytes, %v", x.method, x.path, status, len(body), err)
		}
	}
	if status, _, err := c.do("GET", "/close", nil); err == nil || status != 0 {
		t.Errorf("a connection that was cut answered %d", status)
	}
}

func TestNumber(t *testing.T) {
	task := []byte(`{"id":71,"lease":{"token":4096,"expires_at":""}}`)
	if id, token := number(task, "id"), number(task, "token"); id != 71 || token != 4096 {
		t.Errorf("got %d, %d", id, token)
	}
	if n := number(task, "none"); n != 0 {
		t.Errorf("got %d", n)
	}
}
