package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Names inside the data folder; doc.go explains each.
const (
	clusterName    = "data"
	newClusterName = "data.new"
	passwordName   = "password"
	portName       = "port"
	ownerLockName  = "owner.lock"
	serverLockName = "server.lock"
)

// DefaultDataDir returns the folder that holds the data without WithDataDir. That is pgqueue/postgres below
// $XDG_DATA_HOME, else below ~/.local/share; on macOS it is below ~/Library/Application Support. Other users may not
// enter the home of root. So root uses /var/lib/pgqueue/postgres unless $XDG_DATA_HOME is set.
func DefaultDataDir() (string, error) {
	base, err := findDataHome()
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "pgqueue", "postgres"), nil
}

// findDataHome returns the base folder for data of this user.
func findDataHome() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return dir, nil
	}
	if runsAsRoot() {
		return "/var/lib", nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("embedded: no home folder to keep data in (%w): set HOME, or name a data folder", err)
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support"), nil
	}
	return filepath.Join(home, ".local", "share"), nil
}

// folder is a data folder of this process. It holds the owner lock until close.
type folder struct {
	path    string   // absolute, links resolved
	root    *os.Root // opened path; files outside it are never written by name
	account account  // user that runs PostgreSQL
	owner   *os.File // the owner lock
	server  *os.File // server lock while this process holds it; children inherit it
	orphan  bool     // children survive this process
}

// openFolder creates a missing folder, checks it and takes the owner lock. An error names the remedy.
func openFolder(ctx context.Context, c *config) (_ *folder, err error) {
	path, err := c.folderPath()
	if err != nil {
		return nil, err
	}

	f := &folder{path: path, orphan: c.orphan}
	defer func() {
		if err != nil {
			f.closeFolder()
			if c.temporary {
				_ = os.RemoveAll(path)
			}
		}
	}()

	// New parents go to the account too, so its choice comes first.
	if f.account, err = chooseAccount(path); err != nil {
		return nil, err
	}
	if err := makeFolders(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("embedded: %w: %w: make it, or name another", ErrDataDir, err)
	}
	// The folder has the data and the password, which only its owner may read.
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("embedded: %w: %w: make it, or name another", ErrDataDir, err)
	}

	// Links are resolved once: the lock, the mark and the command line must all name one path.
	if f.path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, fmt.Errorf("embedded: %w: %w", ErrDataDir, err)
	}
	if f.root, err = os.OpenRoot(f.path); err != nil {
		return nil, fmt.Errorf("embedded: %w: %w: run as its owner, or name another", ErrDataDir, err)
	}

	// The owner lock is last: it writes a file into the folder.
	if err := f.checkContents(); err != nil {
		return nil, err
	}
	if err := f.takeOwnership(); err != nil {
		return nil, err
	}
	if err := f.checkReach(ctx); err != nil {
		return nil, err
	}
	if err := f.lockOwner(); err != nil {
		return nil, err
	}
	return f, nil
}

// folderPath returns the absolute path for the data. It already creates a temporary folder.
func (c *config) folderPath() (string, error) {
	if c.temporary {
		dir, err := os.MkdirTemp("", "pgqueue-postgres-")
		if err != nil {
			return "", fmt.Errorf("embedded: temporary data folder: %w", err)
		}
		return filepath.Abs(dir)
	}

	dir := c.dataDir
	if dir == "" {
		return DefaultDataDir()
	}
	return filepath.Abs(dir)
}

// makeFolders creates dir and its missing parents with mode 0755. Root gives them to the owner of the nearest
// existing parent, so that this user can still enter its own home.
func makeFolders(dir string) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a folder", dir)
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	parent := filepath.Dir(dir)
	if err := makeFolders(parent); err != nil {
		return err
	}

	if err := os.Mkdir(dir, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil // another process created it
		}
		return err
	}

	if !runsAsRoot() {
		return nil
	}
	info, err := os.Stat(parent)
	if err != nil {
		return err
	}
	uid, gid := ownerOf(info)
	return os.Lchown(dir, int(uid), int(gid))
}

// checkContents refuses a folder with files of other programs, unless it already holds a data directory.
func (f *folder) checkContents() error {
	if _, err := f.root.Stat(clusterName + "/PG_VERSION"); err == nil {
		return nil
	}

	entries, err := fs.ReadDir(f.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("embedded: %w: %w: run as its owner, or name another", ErrDataDir, err)
	}

	for _, e := range entries {
		switch e.Name() {
		case clusterName, newClusterName, passwordName, passwordName + ".new", portName, ownerLockName, serverLockName,
			"lost+found", ".DS_Store": // made by a file system and by macOS
		default:
			return fmt.Errorf("embedded: %w: %s holds %s, which is not of this program's making: name an empty or a new folder",
				ErrDataDir, f.path, e.Name())
		}
	}
	return nil
}

// takeOwnership checks that the folder belongs to the user that runs PostgreSQL. It changes the owner only of a folder of root.
func (f *folder) takeOwnership() error {
	info, err := f.root.Stat(".")
	if err != nil {
		return fmt.Errorf("embedded: %w: %w", ErrDataDir, err)
	}

	uid, _ := ownerOf(info)
	switch {
	case uid == f.account.uid:
		return nil
	case f.account.other && uid == 0:
		if err := f.root.Chown(".", int(f.account.uid), int(f.account.gid)); err != nil {
			return fmt.Errorf("embedded: %w: giving it to user %s: %w: do so by hand (chown), or start as that user",
				ErrDataDir, f.account.name, err)
		}
		return nil
	default:
		return fmt.Errorf("embedded: %w: %s belongs to user id %d, but this is user id %d: run as its owner, or name another",
			ErrDataDir, f.path, uid, f.account.uid)
	}
}

// checkReach checks that the user that runs PostgreSQL can enter the folder. The mode of a parent may forbid it, as
// the home of root does. A short command as that user is the test, since mode bits alone cannot predict a refusal.
func (f *folder) checkReach(ctx context.Context) error {
	if !f.account.other {
		return nil
	}

	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()

	_, err := runCommand(f.command(ctx, "/bin/sh", "-c", "exit 0"), "")
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPERM):
		return errors.New("embedded: running as root without the right to become another user, and PostgreSQL refuses root; " +
			"start as an unprivileged user, or allow CAP_SETUID and CAP_SETGID")
	case errors.Is(err, syscall.EACCES):
		// The error names the nearest parent that is closed, for its chmod command.
		for dir := filepath.Dir(f.path); ; dir = filepath.Dir(dir) {
			if info, err := os.Stat(dir); err == nil && !f.account.mayEnter(info) {
				return fmt.Errorf("embedded: %w: user %s of PostgreSQL may not enter %s: "+
					"name a data folder elsewhere, such as /var/lib/pgqueue/postgres, or allow it with: chmod o+x %s",
					ErrDataDir, f.account.name, dir, dir)
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return fmt.Errorf("embedded: %w: user %s of PostgreSQL cannot enter %s: %w: name a data folder elsewhere",
		ErrDataDir, f.account.name, f.path, err)
}

// cluster returns the path of PostgreSQL's data directory.
func (f *folder) cluster() string { return filepath.Join(f.path, clusterName) }

// createFile opens or creates a file of the folder and gives it to the user of PostgreSQL. So a later start as that user
// can write it too, even when root created it.
func (f *folder) createFile(name string, flags int) (*os.File, error) {
	file, err := f.root.OpenFile(name, flags|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if f.account.other {
		if err := file.Chown(int(f.account.uid), int(f.account.gid)); err != nil {
			_ = file.Close()
			return nil, err
		}
	}
	return file, nil
}

// replaceFile replaces a small file atomically.
func (f *folder) replaceFile(name, content string) error {
	tmp := name + ".new"
	file, err := f.createFile(tmp, os.O_WRONLY|os.O_TRUNC)
	if err != nil {
		return err
	}

	_, err = file.WriteString(content)
	if err == nil {
		// The rename may reach the disk before the content otherwise, and a power cut would leave an empty file.
		err = file.Sync()
	}

	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return f.root.Rename(tmp, name)
}

// password returns the stored password, or stores a new one where there is none. It holds only letters and digits.
func (f *folder) password() (string, error) {
	const shortest = 20
	if b, err := f.root.ReadFile(passwordName); err == nil {
		if p := strings.TrimSpace(string(b)); len(p) >= shortest && !strings.ContainsAny(p, "'\\\x00\r\n") {
			return p, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("embedded: %w: password: %w", ErrDataDir, err)
	}

	p := rand.Text()
	if err := f.replaceFile(passwordName, p+"\n"); err != nil {
		return "", fmt.Errorf("embedded: %w: keeping the password: %w", ErrDataDir, err)
	}
	return p, nil
}

// readLastPort returns the port of the last run, or 0 when it is unknown.
func (f *folder) readLastPort() int {
	b, err := f.root.ReadFile(portName)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || n < 1 || n > 65535 {
		return 0
	}
	return n
}

// readMajor returns the major version of the data, or 0 when there is no data yet.
func (f *folder) readMajor() (int, error) {
	b, err := f.root.ReadFile(clusterName + "/PG_VERSION")
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := f.root.Lstat(clusterName); errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
	}
	if err != nil {
		return 0, fmt.Errorf("embedded: %w: %w: the data is damaged; restore it, or name another folder", ErrDataDir, err)
	}

	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("embedded: %w: %s says PostgreSQL %q: the data is damaged or older than PostgreSQL 10",
			ErrDataDir, filepath.Join(f.cluster(), "PG_VERSION"), oneLine(string(b)))
	}
	return n, nil
}

// closeFolder frees both locks and closes the folder. A second call does nothing.
func (f *folder) closeFolder() {
	for _, file := range []**os.File{&f.server, &f.owner} {
		if *file != nil {
			_ = (*file).Close() // closing frees the lock
			*file = nil
		}
	}
	if f.root != nil {
		_ = f.root.Close()
		f.root = nil
	}
}

// command prepares a program of PostgreSQL. The program runs as its account, in the folder and without settings from
// the environment. It inherits the server lock, and the kernel ends it with this process where it can.
func (f *folder) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = f.path
	cmd.Env = f.buildEnviron()
	cmd.SysProcAttr = f.account.sysProcAttr(!f.orphan)
	// initdb cleans up on SIGINT.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 5 * time.Second
	if f.server != nil {
		cmd.ExtraFiles = []*os.File{f.server}
	}
	return cmd
}

// buildEnviron returns the environment without the variables that change the start or the language of PostgreSQL. The
// package parses its messages, so they must be in English.
func (f *folder) buildEnviron() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "PG"), strings.HasPrefix(name, "LC_"), name == "LANG", name == "LANGUAGE":
		case f.account.other && (name == "HOME" || name == "USER" || name == "LOGNAME"):
		default:
			env = append(env, kv)
		}
	}
	env = append(env, "LC_ALL=C")
	if f.account.other {
		env = append(env, "HOME="+f.path, "USER="+f.account.name, "LOGNAME="+f.account.name)
	}
	return env
}

// runCommand executes a short command and returns its output. It locks the thread, because Linux counts the end of the
// thread that started a process as the end of the parent.
func runCommand(cmd *exec.Cmd, stdin string) (string, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
