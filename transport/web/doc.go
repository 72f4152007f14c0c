// Package web serves the dashboard: a page of static files that calls the REST API and its server-sent events. It knows
// nothing of tasks, so a right of a caller is decided by the API alone.
//
// The files are embedded. The folder ui has their sources, and tools/ui bundles them into dist with four names that do not
// change. A version in the link of each file lets browsers keep it for good.
//
// Every path of a page answers with the same document. Its base is relative by the depth of the path, so the page works
// below any path of a proxy, whether the proxy keeps or strips that path, without a setting.
package web
