package pace_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgqueue/pgqueue/domain/pace"
	"github.com/pgqueue/pgqueue/domain/queuetest"
)

func TestMain(m *testing.M) { os.Exit(queuetest.VerifyGoroutines(m.Run)) }

// slowReader reads the body of a request, a piece after each rest.
type slowReader struct{ rest time.Duration }

func (s slowReader) Do(r *http.Request) (*http.Response, error) {
	for {
		select {
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		case <-time.After(s.rest):
		}
		switch _, err := io.CopyN(io.Discard, r.Body, pace.Bytes); {
		case errors.Is(err, io.EOF):
			return &http.Response{Body: http.NoBody}, nil
		case err != nil:
			return nil, err
		}
	}
}

func TestDo(t *testing.T) {
	const timeout = 10 * time.Second
	for _, c := range []struct {
		sentence string
		rest     time.Duration
		want     error
	}{
		{"a body that moves for several timeouts is sent whole", 6 * time.Second, nil},
		{"a body that stands still ends the call", 11 * time.Second, context.DeadlineExceeded},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := pace.Start(t.Context(), 0, timeout)
				defer stop()
				body := strings.NewReader(strings.Repeat("x", 20*pace.Bytes))
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost", body)
				if err != nil {
					t.Fatal(err)
				}

				began := time.Now()
				resp, err := pace.Do(slowReader{c.rest}, req)
				if err == nil {
					err = resp.Body.Close()
				}
				if took := time.Since(began); !errors.Is(err, c.want) || c.want == nil && took < 2*timeout {
					t.Errorf("the call ended after %v with %v, want %v", took, err, c.want)
				}
			})
		})
	}
}
