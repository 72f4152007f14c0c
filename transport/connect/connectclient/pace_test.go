package connectclient_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/connect/connectclient"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// slowServer answers each call with message. Before each piece of the answer it rests; the clock is the test's.
type slowServer struct {
	message proto.Message
	rest    time.Duration
}

const slowPiece = 100_000

func (s slowServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	content, err := proto.Marshal(s.message)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/2.0", ProtoMajor: 2, Request: r, ContentLength: int64(len(content)),
		Header: http.Header{"Content-Type": {"application/proto"}},
		Body:   &slowBody{r: r, left: *bytes.NewReader(content), rest: s.rest},
	}, nil
}

type slowBody struct {
	r     *http.Request
	left  bytes.Reader
	rest  time.Duration
	piece int // bytes that are left of the piece that has arrived
}

func (b *slowBody) Read(to []byte) (int, error) {
	if b.piece == 0 {
		select {
		case <-b.r.Context().Done():
			return 0, b.r.Context().Err()
		case <-time.After(b.rest):
			b.piece = slowPiece
		}
	}
	n, err := b.left.Read(to[:min(len(to), b.piece)])
	b.piece -= n
	return n, err
}

func (b *slowBody) Close() error { return nil }

// TestCallsEndByLackOfProgress checks that a call lasts as long as its bytes move, so that a slow line gets full pages.
func TestCallsEndByLackOfProgress(t *testing.T) {
	page := &pb.ListTasksResponse{}
	for range 64 {
		page.Tasks = append(page.Tasks, &pb.Task{Payload: []byte(`"` + strings.Repeat("x", 64<<10) + `"`)})
	}
	for _, c := range []struct {
		sentence string
		rest     time.Duration
		arrives  bool
	}{
		{"an answer that moves for several timeouts arrives whole", 6 * time.Second, true},
		{"an answer that stands still ends the call", 31 * time.Second, false},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := must[*connectclient.Client](t)(connectclient.New("http://localhost", connectclient.WithRetries(0),
					connectclient.WithHTTPClient(&http.Client{Transport: slowServer{page, c.rest}})))
				defer client.Close()

				began := time.Now()
				got, err := client.ListTasks(t.Context(), queue.TaskQuery{})
				took := time.Since(began)
				switch {
				case c.arrives && (err != nil || len(got.Tasks) != len(page.GetTasks())):
					t.Errorf("%d of %d tasks after %v: %v", len(got.Tasks), len(page.GetTasks()), took, err)
				case c.arrives && took < 2*connectclient.DefaultTimeout:
					t.Errorf("the answer took %v, which proves nothing", took)
				case !c.arrives && (!errors.Is(err, queue.ErrDeadline) || took != connectclient.DefaultTimeout):
					t.Errorf("the call ended after %v with %v, want the end of the timeout", took, err)
				}
			})
		})
	}
}
