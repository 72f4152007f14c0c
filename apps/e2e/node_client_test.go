package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/pgqueue/pgqueue/domain/queuetest"
	pb "github.com/pgqueue/pgqueue/transport/connect/gen/pgqueue/v1"
)

// TestANodeClientWorksATaskAndReceivesATick generates types from the proto with protoc-gen-es, compiles
// testdata/node-client against them and runs it over each protocol. It needs npm, which installs the packages once.
func TestANodeClientWorksATaskAndReceivesATick(t *testing.T) {
	npm := findNpm(t)
	modules := nodeModules(t, npm, "node-client")
	dir := t.TempDir()
	for _, name := range []string{"package.json", "tsconfig.json", "client.ts"} {
		b, err := os.ReadFile(filepath.Join("testdata", "node-client", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	linkModules(t, modules, dir)
	generateTypes(t, dir)
	run(t, dir, nil, filepath.Join(modules, ".bin", "tsc"))

	url := "http://" + serveConnect(t)
	for _, protocol := range []string{"connect", "grpc", "grpcweb"} {
		t.Run(protocol, func(t *testing.T) {
			if out := run(t, dir, nil, "node", filepath.Join("dist", "client.js"), url, protocol); !strings.HasSuffix(string(out), "ok\n") {
				t.Fatalf("the client said %s", out)
			}
		})
	}
}

// findNpm returns the path of npm, which a machine of CI need not have.
func findNpm(t *testing.T) string {
	t.Helper()
	return queuetest.FindTools(t, "npm")[0]
}

// nodeModules returns a folder with the packages of package.json in a folder of testdata. npm installs it once for each
// version of that file.
func nodeModules(t *testing.T, npm, name string) string {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join("testdata", name, "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	home := filepath.Join(cache, "pgqueue-e2e")
	dir := filepath.Join(home, fmt.Sprintf("%s-%x", name, sha256.Sum256(manifest))[:28])
	if _, err := os.Stat(dir); err == nil {
		return filepath.Join(dir, "node_modules")
	}
	if err := os.MkdirAll(home, 0o750); err != nil {
		t.Fatal(err)
	}
	// npm installs into another folder and the test renames it. So a folder with the final name is always complete.
	fresh, err := os.MkdirTemp(home, "installing-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	if err := os.WriteFile(filepath.Join(fresh, "package.json"), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, fresh, nil, npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts")
	if err := os.Rename(fresh, dir); err != nil {
		if _, there := os.Stat(dir); there != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "node_modules")
}

// generateTypes sends the descriptors of this program to protoc-gen-es.
func generateTypes(t *testing.T, dir string) {
	t.Helper()
	req := &pluginpb.CodeGeneratorRequest{Parameter: new("target=ts,import_extension=js")}
	seen := map[string]bool{}
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		req.ProtoFile = append(req.ProtoFile, protodesc.ToFileDescriptorProto(f))
		if !strings.HasPrefix(f.Path(), "google/") { // the runtime contains these
			req.FileToGenerate = append(req.FileToGenerate, f.Path())
		}
	}
	for _, f := range []protoreflect.FileDescriptor{
		pb.File_pgqueue_v1_error_proto, pb.File_pgqueue_v1_event_proto, pb.File_pgqueue_v1_namespace_proto,
		pb.File_pgqueue_v1_queue_proto, pb.File_pgqueue_v1_ticker_proto, pb.File_pgqueue_v1_work_proto,
	} {
		add(f)
	}
	in, err := proto.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	var res pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(run(t, dir, in, filepath.Join(dir, "node_modules", ".bin", "protoc-gen-es")), &res); err != nil {
		t.Fatal(err)
	}
	if res.GetError() != "" || len(res.GetFile()) == 0 {
		t.Fatalf("protoc-gen-es: %s, %d files", res.GetError(), len(res.GetFile()))
	}
	for _, f := range res.GetFile() {
		path := filepath.Join(dir, "gen", filepath.FromSlash(f.GetName()))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f.GetContent()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// run runs a program and returns its output.
func run(t *testing.T, dir string, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(name), strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return out
}

// linkModules lets programs in dir import the packages of a folder.
func linkModules(t *testing.T, modules, dir string) {
	t.Helper()
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
}

func copyInto(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
