package cmdutil

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/factory"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// Completer completes arguments or a flag's value.
type Completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// QueueNames completes queues, as the server knows them now.
func QueueNames(f *factory.Factory) Completer {
	return completeFromServer(f, func(ctx context.Context, svc queue.Service) (out []string, err error) {
		page, err := svc.ListQueues(ctx, queue.Page{Limit: queue.MaxPage})
		for _, q := range page.Queues {
			out = append(out, q.Name)
		}
		return out, err
	})
}

// TickerNames completes tickers, as the server knows them now.
func TickerNames(f *factory.Factory) Completer {
	return completeFromServer(f, func(ctx context.Context, svc queue.Service) (out []string, err error) {
		page, err := svc.ListTickers(ctx, queue.Page{Limit: queue.MaxPage})
		for _, t := range page.Tickers {
			out = append(out, t.Name)
		}
		return out, err
	})
}

// NamespaceNames completes namespaces.
func NamespaceNames(f *factory.Factory) Completer {
	return completeFromServer(f, func(ctx context.Context, svc queue.Service) ([]string, error) { return svc.ListNamespaces(ctx) })
}

// Fixed completes from a list.
func Fixed(values ...string) Completer {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return values, cobra.ShellCompDirectiveNoFileComp
	}
}

// First completes the first argument alone.
func First(c Completer) Completer {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return c(cmd, args, word)
	}
}

// completeFromServer asks the server. It leaves out arguments given before, and offers nothing without an answer.
func completeFromServer(f *factory.Factory, list func(context.Context, queue.Service) ([]string, error)) Completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		// Completion runs none of the hooks of the command, so settings are found here.
		if err := Prepare(f, cmd); err != nil {
			return nil, none
		}

		// The client that Service makes bounds each attempt by it.
		f.Settings.Timeout = completionTimeout
		svc, err := f.Service()
		if err != nil {
			return nil, none
		}

		ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
		defer cancel()
		all, err := list(ctx, svc)
		if err != nil {
			return nil, none
		}

		return slices.DeleteFunc(all, func(s string) bool { return slices.Contains(args, s) }), none
	}
}
