package token

import (
	"context"
	"errors"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgqueue/pgqueue/apps/cli/internal/cmdutil"
	"github.com/pgqueue/pgqueue/apps/internal/program"
	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// link is the address of the dashboard. Its fragment has the code, so neither a server nor a proxy sees it.
type link struct {
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

func (c *commands) newDashboardCommand() *cobra.Command {
	noOpen := false
	cmd := &cobra.Command{
		Use: "dashboard", Annotations: cmdutil.Calls(queue.OpCreateCode, ""),
		Short: "Open the dashboard of the server, signed in",
		Long: "Open the dashboard of the server in a browser, signed in with the rights of the command's token. The address works once and for\n" +
			"a minute. Without a browser, or with --no-open, it is printed; keep it to yourself.",
		Example: "  pgqueue dashboard\n  pgqueue dashboard --no-open --jq .url",
		Args:    cmdutil.Args(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := c.f.Printer()
			if err != nil {
				return err
			}
			ctx, cancel := c.f.Call(cmd.Context())
			defer cancel()
			to, err := c.makeLink(ctx)
			if err != nil {
				return err
			}

			if !p.Human() {
				return p.Value(to)
			}
			page, _, _ := strings.Cut(to.URL, "#")
			if !noOpen {
				if err := c.openBrowser(cmd.Context(), to.URL); err == nil {
					p.Done("opened %s", page)
					return nil
				}
			}
			_, err = fmt.Fprintln(c.f.IO.Out, to.URL)
			return err
		},
	}
	cmd.Flags().BoolVar(&noOpen, "no-open", false, "print the address and open no browser")
	return cmd
}

// makeLink returns the address of the dashboard. On an open server it needs no code.
func (c *commands) makeLink(ctx context.Context) (link, error) {
	client, err := c.f.Settings.Server.DialREST(c.f.Settings.Timeout)
	if err != nil {
		return link{}, err
	}
	defer client.Close()

	page := c.f.Settings.Server.FindDashboard(ctx, c.f.Settings.Timeout)
	if page == "" { // a proxy may answer at the root
		page = strings.TrimSuffix(strings.TrimRight(c.f.Settings.URL, "/"), program.DefaultPrefix) + "/ui/"
	}
	to := link{URL: page}
	identity, err := client.WhoAmI(ctx)
	if err != nil || identity.Kind == access.KindLocal {
		return to, err
	}
	code, err := client.CreateCode(ctx)
	if err != nil {
		return link{}, err
	}
	to.URL += "#code=" + code.Secret.Reveal()
	to.ExpiresAt = code.ExpiresAt
	return to, nil
}

// errNoBrowser says that this session of the user has no browser.
var errNoBrowser = errors.New("browser: must be there for this user, got none; use --no-open")

// openBrowser opens an address. It passes a file with the address, because every user of a machine sees the arguments of its
// programs.
func (c *commands) openBrowser(ctx context.Context, address string) error {
	name, args, err := c.findBrowser()
	if err != nil {
		return err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	dir := filepath.Join(cache, "pgqueue")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}

	file := filepath.Join(dir, "dashboard.html")
	// A file of former rights would keep them.
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	to := html.EscapeString(address)
	content := `<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0;url=` +
		to + `"><title>pgqueue</title><a href="` + to + `">pgqueue</a>`
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		return err
	}
	return exec.CommandContext(ctx, name, append(args, file)...).Run() //nolint:gosec // the program of the system that opens files
}

// findBrowser returns the program that opens a file in the browser of the user.
func (c *commands) findBrowser() (name string, args []string, err error) {
	switch runtime.GOOS {
	case "darwin":
		return "open", nil, nil
	case "windows":
		return "rundll32", []string{"url.dll,FileProtocolHandler"}, nil
	}
	for _, variable := range []string{"DISPLAY", "WAYLAND_DISPLAY"} {
		if value, _ := c.f.Lookup(variable); value != "" {
			path, err := exec.LookPath("xdg-open")
			return path, nil, err
		}
	}
	return "", nil, errNoBrowser
}
