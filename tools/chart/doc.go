// Package chart tests the Helm chart with Helm's own engine and Kubernetes' own types. It is a module of its own, outside
// the workspace: what Helm requires must choose neither the product's versions nor those of the other tools.
package chart
