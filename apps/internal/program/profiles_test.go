package program_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/apps/internal/program"
)

func TestProfiles(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0"} {
		if _, err := program.ServeProfiles(t.Context(), addr, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "must be a loopback address, got") {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if stop, err := program.ServeProfiles(t.Context(), "", nil); err != nil {
		t.Error(err)
	} else {
		stop()
	}

	var log bytes.Buffer
	stop, err := program.ServeProfiles(t.Context(), "127.0.0.1:0", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	url := regexp.MustCompile(`http://[^ ]+/`).FindString(log.String())
	get := func(path, host string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body)
	}
	if status, body := get("goroutine?debug=1", ""); status != http.StatusOK || !strings.Contains(body, "goroutine profile:") {
		t.Errorf("%d %.200s", status, body)
	}
	if status, body := get("heap", ""); status != http.StatusOK || len(body) < 100 {
		t.Errorf("%d %.200s", status, body)
	}
	for _, c := range [][2]string{{"cmdline", ""}, {"goroutine", "evil.example"}} {
		if status, _ := get(c[0], c[1]); status < 400 {
			t.Errorf("%v: %d", c, status)
		}
	}
	stop()
	if _, err := http.Get(url); err == nil {
		t.Error("profiles are served after the stop")
	}
}
