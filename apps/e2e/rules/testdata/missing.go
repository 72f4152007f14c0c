// Package missing uses a name that it does not have.
package missing

var _ = nowhere()
