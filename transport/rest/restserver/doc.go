// Package restserver serves any queue.Service over REST, with live streams as server-sent events.
//
// huma describes the operations (OpenAPI 3.1) and binds them to net/http's ServeMux. Bodies are decoded and answers
// encoded by package restapi, not by huma: null means absent here, JSON payloads must pass byte by byte, and an error
// names its field by the domain's rules. The package knows the domain only; storage, metrics and health come in through
// Config.
package restserver
