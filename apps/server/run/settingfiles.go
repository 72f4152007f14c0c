package run

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
)

// settingFiles are the files of settings that may change while the server runs. They are read at the start, in intervals
// and on SIGHUP. While a file is wrong, its former content stays in use. It is safe for concurrent use.
type settingFiles struct {
	log   *slog.Logger
	audit *access.AuditRecorder // set before the first read after the start; nil = none

	mu    sync.Mutex
	files []*settingFile
}

// settingFile is a file, or several that belong together.
type settingFile struct {
	name, path string
	// read reads the file, and takes over a changed content. It reports whether the content has changed.
	read func() (changed bool, err error)
	// fault is the reason why the former content is still in use; nil = the file is right.
	fault error
}

// add reads a file for the first time and keeps it for later reads. The error is that of the read.
func (s *settingFiles) add(name, path string, read func() (changed bool, err error)) error {
	if _, err := read(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = append(s.files, &settingFile{name: name, path: path, read: read})
	return nil
}

// read reads each file again. It logs and audits each change, and each fault once. It returns the number of files, and of those
// that are wrong.
func (s *settingFiles) read(ctx context.Context) (all, wrong int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		former := f.fault
		changed, err := f.read()
		f.fault = err
		switch {
		case err != nil:
			wrong++
			if former == nil || former.Error() != err.Error() {
				s.log.ErrorContext(ctx, "a file of settings is wrong, so its former content stays in use", "setting", f.name, "file", f.path, "error", err)
				s.record(ctx, f, err)
			}
		case changed:
			s.log.InfoContext(ctx, "a file of settings has changed and is in use", "setting", f.name, "file", f.path)
			s.record(ctx, f, nil)
		case former != nil:
			s.log.InfoContext(ctx, "a file of settings is right again", "setting", f.name, "file", f.path)
			s.record(ctx, f, nil)
		}
	}
	return len(s.files), wrong
}

// opReload is the operation of a file of settings that a server reads again, in the audit.
const opReload = "reload_settings"

// record enters a reload of f into the audit, as a change of access by the server.
func (s *settingFiles) record(ctx context.Context, f *settingFile, err error) {
	server := access.NewPrincipal("server", "server", access.KindDatabase, nil)
	s.audit.Record(access.With(ctx, server), access.AuditEntry{Action: queue.ActionAccessManage, Operation: opReload, Filter: "setting=" + f.name}, err)
}

// check is a check of telemetry.Health: it fails while the former content of a file is in use.
func (s *settingFiles) check(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var faults []error
	for _, f := range s.files {
		if f.fault != nil {
			faults = append(faults, f.fault)
		}
	}
	return errors.Join(faults...)
}

// Reload reads the files of the settings again, as SIGHUP and the server itself in intervals do: the access file, the tokens
// of the admin token file, and certificates. A wrong file leaves its former content in use. The log has the outcome.
func (s *Server) Reload(ctx context.Context) {
	all, wrong := s.files.read(ctx)
	if all == 0 {
		s.log.InfoContext(ctx, "no setting is in a file, so there is nothing to read again")
		return
	}
	s.log.InfoContext(ctx, "the files of the settings are read", "files", all, "wrong", wrong)
}
