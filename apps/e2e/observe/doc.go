// Package observe has the tests of what operators look at: alert rules, dashboards, and a task's trace over every wire.
package observe
