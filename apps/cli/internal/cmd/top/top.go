// Package top has the full-screen view.
package top

import (
	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
)

// Commands is the full-screen view.
func Commands(*factory.Factory) []*cobra.Command { return nil }
