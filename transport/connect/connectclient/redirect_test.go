package connectclient_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
)

// TestRedirectsAreErrorsOfOneRequest: a redirect that is followed would make a GET of the POST of a create.
func TestRedirectsAreErrorsOfOneRequest(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		var requests atomic.Int64
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			w.Header().Set("Location", "/other"+r.URL.Path)
			w.WriteHeader(status)
		}))
		s.EnableHTTP2 = true
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetHTTP1(true)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
		c, err := connectclient.New(s.URL, connectclient.WithRetries(0))
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.CreateTasks(t.Context(), []queue.NewTask{{Queue: "mail"}})
		if n := requests.Load(); err == nil || n != 1 {
			t.Errorf("%d: %d requests, %v", status, n, err)
		}
		c.Close()
		s.Close()
	}
}
