// Package chart tests the Helm chart with Helm's own engine and Kubernetes' own types. It is a separate module outside
// the workspace, so that Helm's requirements select neither the product's versions nor those of the other tools.
package chart
