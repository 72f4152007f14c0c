// Package observe tests the tools of operators: alert rules, dashboards, and the trace of a task over every wire.
package observe
