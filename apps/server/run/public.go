package run

import (
	"net/http"
	"strings"

	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/web"
)

// publicRoute is a route that needs no credential. The match is exact: a queue may have the name of any of these paths.
type publicRoute struct {
	// methods are separated by a space.
	methods string
	path    string
	// below makes the route match all paths that begin with path, which ends in "/".
	below bool
	// when restricts the route to some requests; nil allows all.
	when func(r *http.Request) bool
}

const (
	readMethods = "GET HEAD"
	rpcMethods  = "GET POST"
)

// listPublicRoutes returns all routes that need no credential, and why: probes, the description of the API and the health of the port
// show nothing of a namespace; a sign-in brings its credential in its body or from the identity provider; all data of the dashboard
// comes by the API.
func (s *Server) listPublicRoutes() []publicRoute {
	var routes []publicRoute
	for _, path := range []string{
		"/livez", "/openapi.json", "/openapi.yaml", "/docs", "/docs/", "/docs/init.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css",
		"/docs/favicon-32x32.png",
	} {
		routes = append(routes, publicRoute{methods: readMethods, path: path})
	}
	routes = append(routes, publicRoute{methods: readMethods, path: "/readyz", when: func(r *http.Request) bool { return !isVerbose(r) }})

	for _, path := range []string{
		"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", "/grpc.health.v1.Health/List",
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
	} {
		routes = append(routes, publicRoute{methods: rpcMethods, path: path})
	}

	routes = append(routes, publicRoute{methods: restapi.OpenSession.Method, path: s.prefix() + restapi.OpenSession.Path})
	if s.control.login != nil {
		routes = append(routes,
			publicRoute{methods: http.MethodGet, path: s.prefix() + loginPath},
			publicRoute{methods: http.MethodGet, path: s.prefix() + callbackPath})
	}

	if page := s.uiPath(); page != "" {
		routes = append(routes,
			publicRoute{methods: readMethods, path: "/", when: web.AcceptsPage},
			publicRoute{methods: readMethods, path: page},
			publicRoute{methods: readMethods, path: page + "/", below: true})
	}
	return routes
}

// isPublic reports whether r needs no credential.
func (s *Server) isPublic(r *http.Request) bool {
	for _, route := range s.publicRoutes() {
		if route.matches(r) {
			return true
		}
	}
	return false
}

func (p *publicRoute) matches(r *http.Request) bool {
	if r.URL.Path != p.path && !(p.below && strings.HasPrefix(r.URL.Path, p.path)) {
		return false
	}
	for method := range strings.FieldsSeq(p.methods) {
		if r.Method == method {
			return p.when == nil || p.when(r)
		}
	}
	return false
}

// isVerbose reports whether a request for the readiness asks for each check.
func isVerbose(r *http.Request) bool { return r.URL.Query().Has("verbose") }
