// Package restserver serves any queue.Service over REST, with live streams as server-sent events.
//
// huma describes the operations (OpenAPI 3.1) and binds them to net/http's ServeMux. Package restapi, not huma,
// decodes the bodies and encodes the answers: null means absent here, JSON payloads must pass byte by byte, and an
// error names its field by the rules of the domain. The package knows only the domain. Config supplies storage,
// metrics and health.
package restserver
