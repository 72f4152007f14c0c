package run

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/web"
)

// reservedPaths are the first parts of the paths of other routes.
var reservedPaths = []string{"docs", "livez", "readyz", "openapi.json", "openapi.yaml"}

// checkUIPath refuses a path of the dashboard that other routes need. A queue or a task may have any name below the prefix.
func (c Config) checkUIPath() error {
	path, prefix := cleanPath(c.UIPath), cleanPath(c.Prefix)
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case c.NoUI:
		return nil
	case !plainPath.MatchString(c.UIPath) || path == "":
		return queue.Invalid("ui-path", fmt.Sprintf("must be a plain path such as %s, got %.64q", DefaultUIPath, c.UIPath))
	case prefix != "" && strings.HasPrefix(path+"/", prefix+"/") || strings.HasPrefix(prefix+"/", path+"/") || slices.Contains(reservedPaths, first):
		return queue.Invalid("ui-path", fmt.Sprintf("must be beside the other routes, got %.64q with the prefix %.64q; choose a path such as %s", c.UIPath, c.Prefix, DefaultUIPath))
	}
	return nil
}

// cleanPath returns a path with one slash in front and none at its end; "" for the root.
func cleanPath(path string) string { return strings.TrimRight("/"+strings.Trim(path, "/"), "/") }

// uiPath returns the path of the dashboard without a slash at its end; "" without a dashboard.
func (s *Server) uiPath() string {
	if s.cfg.NoUI {
		return ""
	}
	return cleanPath(s.cfg.UIPath)
}

// pages are the paths that links on other sites may open. They change no state and show no data of a namespace.
// The answer of an identity provider comes from its site, and counts with a cookie of this one alone.
func (s *Server) pages() []string {
	pages := []string{"/", "/docs", "/docs/", s.prefix() + callbackPath}
	if path := s.uiPath(); path != "" {
		pages = append(pages, path, path+"/")
	}
	return pages
}

// addDashboard adds the page, and leads browsers that ask for the root to it. Other clients get the answer of rest there.
func (s *Server) addDashboard(routes map[string]http.Handler, rest http.Handler) error {
	path := s.uiPath()
	if path == "" {
		return nil
	}
	// Relative paths keep the page working behind a proxy that adds a path.
	root := strings.Repeat("../", strings.Count(path, "/"))
	config := web.Config{Home: path, Root: root, API: root + strings.TrimPrefix(s.prefix(), "/"), Namespace: s.cfg.Namespace, Version: s.cfg.Version}
	if s.prefix() == "" {
		config.API = strings.TrimSuffix(root, "/")
	}
	if s.control.login != nil {
		config.Login = config.API + loginPath
	}
	page, err := web.New(config)
	if err != nil {
		return err
	}

	routes["GET "+path+"/"] = s.logRequests(http.StripPrefix(path, page))
	routes["GET "+path] = redirectTo(path[strings.LastIndexByte(path, '/')+1:] + "/")
	routes["GET /{$}"] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !web.AcceptsPage(r) {
			rest.ServeHTTP(w, r)
			return
		}
		// A cache must not give the redirect to clients that ask for JSON.
		w.Header().Set("Vary", "Accept")
		redirectTo(strings.TrimPrefix(path, "/")+"/")(w, r)
	})
	return nil
}

// redirectTo leads to a path relative to that of the request, which is right behind a path of a proxy too.
func redirectTo(relative string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		to := url.URL{Path: relative, RawQuery: r.URL.RawQuery}
		w.Header().Set("Location", to.String())
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusFound)
	}
}
