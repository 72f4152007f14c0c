// Package config stores named contexts: the server, namespace and credentials of a command.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Context is one named set of settings. Flags, environment and defaults fill in the empty ones.
type Context struct {
	URL       string `yaml:"url,omitempty" json:"url,omitempty"`
	Namespace string `yaml:"namespace,omitempty" json:"namespace,omitempty"`
	Protocol  string `yaml:"protocol,omitempty" json:"protocol,omitempty"`
	Output    string `yaml:"output,omitempty" json:"output,omitempty"`
	// TokenFile is a file with the token.
	TokenFile string `yaml:"auth-token-file,omitempty" json:"auth-token-file,omitempty"`
	// CAFile, CertFile and KeyFile are the files of https connections, see program.ClientTLS.
	CAFile   string `yaml:"ca-file,omitempty" json:"ca-file,omitempty"`
	CertFile string `yaml:"cert-file,omitempty" json:"cert-file,omitempty"`
	KeyFile  string `yaml:"key-file,omitempty" json:"key-file,omitempty"`
	// Token is sent as "Authorization: Bearer …".
	Token string `yaml:"token,omitempty" json:"token,omitempty"`
}

// File is the configuration file.
type File struct {
	Current  string             `yaml:"current-context,omitempty" json:"current-context,omitempty"`
	Contexts map[string]Context `yaml:"contexts,omitempty" json:"contexts,omitempty"`
}

// DefaultPath returns the path of the file: $XDG_CONFIG_HOME/pgqueue/config.yaml, or else
// ~/.config/pgqueue/config.yaml. It is "" without a home folder.
func DefaultPath(lookup func(string) (string, bool)) string {
	if dir, ok := lookup("XDG_CONFIG_HOME"); ok && filepath.IsAbs(dir) {
		return filepath.Join(dir, "pgqueue", "config.yaml")
	}

	home, ok := lookup("HOME")
	if !ok || home == "" {
		return ""
	}

	return filepath.Join(home, ".config", "pgqueue", "config.yaml")
}

// Load reads the file at path; a file that does not exist is empty.
func Load(path string) (File, error) {
	var f File
	if path == "" {
		return f, nil
	}

	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}

	if err != nil {
		return f, &queue.Error{Op: "read configuration", Kind: queue.KindInvalid, Err: err}
	}

	dec := yaml.NewDecoder(strings.NewReader(string(b)))
	// A misspelt setting would silently have no effect.
	dec.KnownFields(true)

	// The decoder reports an empty file as io.EOF; it is a file without contexts.
	if err := dec.Decode(&f); err != nil && len(strings.TrimSpace(string(b))) > 0 {
		return f, &queue.Error{Op: "read configuration", Kind: queue.KindInvalid, Subject: path, Msg: strings.ReplaceAll(err.Error(), "\n", " ")}
	}

	return f, nil
}

// Save writes the file completely or not at all. Only its owner can read it.
func (f File) Save(path string) error {
	if path == "" {
		return &queue.Error{Op: "write configuration", Kind: queue.KindInvalid, Field: "config", Msg: "must be a file, got no home folder to put it in; give --config"}
	}

	b, err := yaml.Marshal(f)
	if err != nil {
		return err
	}

	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}

	if target, err := filepath.EvalSymlinks(path); err == nil {
		// The file is replaced, and a link to it stays.
		path = target
	}

	// os.CreateTemp uses mode 0600.
	tmp, err := os.CreateTemp(filepath.Dir(path), ".config-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())

	if _, err := tmp.Write(b); err != nil {
		return errors.Join(err, tmp.Close())
	}

	if err := tmp.Close(); err != nil {
		return err
	}

	return os.Rename(tmp.Name(), path)
}

// Names returns the names of the contexts in order.
func (f File) Names() []string { return slices.Sorted(maps.Keys(f.Contexts)) }

// Use returns the context with the name, or the current one for ""; without either an empty one.
func (f File) Use(name string) (Context, error) {
	if name == "" {
		name = f.Current
	}

	if name == "" {
		return Context{}, nil
	}

	c, ok := f.Contexts[name]
	if !ok {
		msg := "there are none yet; make one with: pgqueue config set-context NAME --url URL"
		if len(f.Contexts) > 0 {
			msg = "there are " + strings.Join(f.Names(), ", ")
		}

		return c, &queue.Error{Kind: queue.KindNotFound, Subject: fmt.Sprintf("context %q", name), Msg: "no such context; " + msg}
	}

	return c, nil
}

// redacted stands for a secret.
const redacted = "REDACTED"

// Redacted returns f without its secrets.
func (f File) Redacted() File {
	out := File{Current: f.Current, Contexts: map[string]Context{}}
	for name, c := range f.Contexts {
		if c.Token != "" {
			c.Token = redacted
		}

		c.URL = RedactURL(c.URL)
		out.Contexts[name] = c
	}

	return out
}

// RedactURL returns s without its password.
func RedactURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.User == nil {
		return s
	}

	if _, has := u.User.Password(); has {
		u.User = url.UserPassword(u.User.Username(), redacted)
	}

	return u.String()
}
