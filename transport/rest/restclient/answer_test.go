package restclient_test

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"testing"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restclient"
)

// TestAnswersAreBounded: neither an answer that is small only while it is compressed, nor one that says that it is large,
// takes much memory of a client.
func TestAnswersAreBounded(t *testing.T) {
	var small bytes.Buffer
	z := gzip.NewWriter(&small)
	for spaces := bytes.Repeat([]byte{' '}, 1<<20); small.Len() < 300<<10; { // about 300 MiB
		if _, err := z.Write(spaces); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}

	const attempts = 4
	for name, answer := range map[string]http.HandlerFunc{
		"compressed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(small.Bytes())
		},
		"said to be large": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(1<<30))
			_, _ = w.Write([]byte("["))
		},
	} {
		t.Run(name, func(t *testing.T) {
			requests := 0
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests++
				answer(w, r)
			}))
			defer s.Close()
			c, err := restclient.New(s.URL+"/api", restclient.WithAttempts(attempts), restclient.WithMaxAnswerBytes(4<<20))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()

			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err = c.ListTasks(t.Context(), queue.TaskQuery{})
			if err == nil || name == "compressed" && queue.KindOf(err) != queue.KindTooLarge {
				t.Errorf("such an answer gives %v", err)
			}
			if name == "compressed" && requests != 1 {
				t.Errorf("%d requests were made", requests)
			}
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
				t.Errorf("it took %d MiB of memory: %v", took>>20, err)
			}
		})
	}
}
