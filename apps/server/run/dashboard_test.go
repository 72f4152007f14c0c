package run

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// open asks for a path as a browser does that follows no redirects.
func openPage(t *testing.T, s *Server, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html,*/*;q=0.8")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func TestTheDashboardIsServed(t *testing.T) {
	store := newSlow()
	close(store.leave)
	cfg := store.config(io.Discard)
	cfg.AdminToken = access.NewSecret().Reveal()
	cfg.Auth = AuthOn
	s := start(t, cfg)

	t.Run("a browser that asks for the root is led there, also behind a path of a proxy", func(t *testing.T) {
		if r, _ := openPage(t, s, "/"); r.StatusCode != http.StatusFound || r.Header.Get("Location") != "ui/" {
			t.Errorf("got %d, %q", r.StatusCode, r.Header.Get("Location"))
		}
		if r, _ := openPage(t, s, "/ui?x=1"); r.StatusCode != http.StatusFound || r.Header.Get("Location") != "ui/?x=1" {
			t.Errorf("got %d, %q", r.StatusCode, r.Header.Get("Location"))
		}
	})
	t.Run("a program that asks for the root is refused as before", func(t *testing.T) {
		if r, _ := openPage(t, s, "/", "Accept", "application/json"); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("got %d", r.StatusCode)
		}
	})
	t.Run("the page of a closed server needs no credential and shows no data", func(t *testing.T) {
		r, text := openPage(t, s, "/ui/default/tasks")
		if r.StatusCode != http.StatusOK || !strings.Contains(text, `data-api="../api"`) || !strings.Contains(text, `data-namespace="default"`) {
			t.Errorf("got %d %.200s", r.StatusCode, text)
		}
		if r, _ := openPage(t, s, "/ui/app.js"); r.StatusCode != http.StatusOK {
			t.Errorf("the script got %d", r.StatusCode)
		}
		if r, _ := openPage(t, s, "/api/task"); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("the API got %d", r.StatusCode)
		}
	})
	t.Run("a link on another site opens it, and a frame there does not", func(t *testing.T) {
		link := []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest"}
		if r, _ := openPage(t, s, "/ui/default/task/1", append(link, "document")...); r.StatusCode != http.StatusOK {
			t.Errorf("the link got %d", r.StatusCode)
		}
		if r, _ := openPage(t, s, "/ui/default/task/1", append(link, "iframe")...); r.StatusCode != http.StatusForbidden {
			t.Errorf("the frame got %d", r.StatusCode)
		}
		if r, _ := openPage(t, s, "/api/task", append(link, "document")...); r.StatusCode != http.StatusForbidden {
			t.Errorf("the link to the API got %d", r.StatusCode)
		}
	})
}

func TestTheDashboardCanMoveAndBeLeftOut(t *testing.T) {
	store := newSlow()
	close(store.leave)
	cfg := store.config(io.Discard)
	cfg.UIPath, cfg.Prefix = "/tools/queue/", "/v1/api"
	s := start(t, cfg)
	if r, text := openPage(t, s, "/tools/queue/default/"); r.StatusCode != http.StatusOK || !strings.Contains(text, `data-api="../../v1/api" data-root="../../"`) {
		t.Errorf("got %d %.300s", r.StatusCode, text)
	}
	if r, _ := openPage(t, s, "/"); r.Header.Get("Location") != "tools/queue/" {
		t.Errorf("the root leads to %q", r.Header.Get("Location"))
	}
	if r, _ := openPage(t, s, "/tools/queue"); r.Header.Get("Location") != "queue/" {
		t.Errorf("the path without a slash leads to %q", r.Header.Get("Location"))
	}

	other := newSlow()
	close(other.leave)
	without := other.config(io.Discard)
	without.NoUI = true
	s = start(t, without)
	for _, path := range []string{"/", "/ui", "/ui/", "/ui/app.js"} {
		if r, _ := openPage(t, s, path); r.StatusCode != http.StatusNotFound {
			t.Errorf("without the dashboard %s got %d", path, r.StatusCode)
		}
	}
}

func TestThePathOfTheDashboardIsBesideTheOthers(t *testing.T) {
	for _, path := range []string{"/", "//", "/api", "/api/ui", "/docs/ui", "/livez", "/u i", "/{x}"} {
		if err := (Config{UIPath: path}).Validate(); queue.KindOf(err) != queue.KindInvalid || !strings.HasPrefix(err.Error(), "ui-path") {
			t.Errorf("%s: got %v", path, err)
		}
	}
	if err := (Config{UIPath: "/api", NoUI: true}).Validate(); err != nil {
		t.Error("a path without a page must not matter, got", err)
	}
	if err := (Config{Prefix: "/"}).Validate(); err != nil {
		t.Error(err)
	}
}

// TestThePageKnowsTheRoles compares the copy of the table of roles, by which the page shows what a caller may not do, with the
// table that decides.
func TestThePageKnowsTheRoles(t *testing.T) {
	content, err := os.ReadFile("../../../transport/web/ui/src/roles.json")
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Role    access.Role    `json:"role"`
		Actions []queue.Action `json:"actions"`
	}
	var got []row
	if err := json.Unmarshal(content, &got); err != nil {
		t.Fatal(err)
	}
	var want []row
	for _, role := range access.Roles() {
		want = append(want, row{role, role.Actions()})
	}
	wanted, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if given, err := json.Marshal(got); err != nil || string(given) != string(wanted) {
		t.Errorf("transport/web/ui/src/roles.json must be %s, got %s %v", wanted, given, err)
	}
}
