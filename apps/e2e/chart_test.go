//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pgqueue/pgqueue/adapters/postgres/postgrestest"
	"github.com/pgqueue/pgqueue/domain/access"
)

// manifest has the parts of the chart's objects that these tests read, by kind and name.
type manifest map[string]*struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Template        podTemplate
		JobTarget       struct{ Template podTemplate } `yaml:"jobTargetRef"`
		MaxReplicaCount int                            `yaml:"maxReplicaCount"`
		Triggers        []struct {
			Type     string
			Metadata struct {
				URL           string
				ValueLocation string `yaml:"valueLocation"`
				TargetValue   string `yaml:"targetValue"`
				AuthMode      string `yaml:"authMode"`
			}
		}
	}
}

// podTemplate has the arguments of a pod.
type podTemplate struct {
	Spec struct {
		Containers []struct{ Args []string }
	}
}

// TestChartOnAServer starts the programs with the arguments of the rendered pods: the migration, a server, the job of the
// definitions, and a job of a worker. It asks the URL of the triggers as KEDA does.
func TestChartOnAServer(t *testing.T) {
	if testing.Short() {
		t.Skip("needs PostgreSQL")
	}
	objects := readManifest(t)
	dir := t.TempDir()
	admin, worker, definitions := access.NewSecret().Reveal(), access.NewSecret().Reveal(), access.NewSecret().Reveal()
	for path, content := range map[string]string{
		"tokens/tokens": admin + "\n" + worker + " worker@default\n" + definitions + " admin@default\n", "token/definitions": definitions, "token/worker": worker,
		"definitions/definitions.yaml": objects["ConfigMap/jobs-pgqueue-definitions"].Data["definitions.yaml"],
	} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o700); err != nil {
			t.Fatal(err)
		}
		writeText(t, filepath.Join(dir, path), content)
	}
	pod := podRunner{dir: dir, database: "PGQUEUE_DATABASE_URL=" + postgrestest.Empty(t)}
	pod.run(t, "pgqueue", objects["Job/jobs-pgqueue-migrate"].Spec.Template)
	s := startServer(t, nil, []string{pod.database}, "pgqueue-server", pod.args(objects["Deployment/jobs-pgqueue-server"].Spec.Template)...)
	pod.addr = s.addr
	pod.run(t, "pgqueue", objects["Job/jobs-pgqueue-definitions"].Spec.Template)
	// Servers may know the token of an upgrade a minute later than the job, which comes back then: 2 would end it.
	writeText(t, filepath.Join(dir, "token", "definitions"), access.NewSecret().Reveal())
	if code, out := pod.exit(t, "pgqueue", objects["Job/jobs-pgqueue-definitions"].Spec.Template); code != 1 || !strings.Contains(out, "must be a valid token") {
		t.Errorf("a token that no server knows yet is answered by exit code %d and %s", code, out)
	}
	writeText(t, filepath.Join(dir, "token", "definitions"), definitions)
	// The job of a file at fault fails at once, and changes nothing: 2 is the exit code that its policy names.
	for content, says := range map[string]string{"queues: {more: {}, mail: {retrys: 5}}": "retrys", "queues: {": "definitions.yaml", "tickers: {t: {cron: '* * * * *', queue: none}}": "none"} {
		writeText(t, filepath.Join(dir, "definitions", "definitions.yaml"), content)
		if code, out := pod.exit(t, "pgqueue", objects["Job/jobs-pgqueue-definitions"].Spec.Template); code != 2 || !strings.Contains(out, says) {
			t.Errorf("the file %s is answered by exit code %d and %s", content, code, out)
		}
	}
	if queues := callDefault(t, http.MethodGet, "http://"+s.addr+"/api/queue", admin, ""); fmt.Sprint(queues["count"]) != "3" {
		t.Errorf("queues %v", queues)
	}
	for _, queue := range []string{"mail", "films", "hooks", "films", "films"} {
		createWithToken(t, s.addr, admin, queue)
	}

	// Before the first task has finished, each ready task wants a slot.
	for key, want := range map[string]int{"ScaledObject/jobs-pgqueue-worker-fast": 1, "ScaledJob/jobs-pgqueue-worker-long": 2} {
		if got := askReplicas(t, objects, key, s.addr, worker); got != want {
			t.Errorf("%s: KEDA wants %d replicas, want %d", key, got, want)
		}
	}

	// The job works the tasks off and ends by itself, and then KEDA wants no other.
	pod.run(t, "pgqueue-worker", objects["ScaledJob/jobs-pgqueue-worker-long"].Spec.JobTarget.Template)
	if got := askReplicas(t, objects, "ScaledJob/jobs-pgqueue-worker-long", s.addr, worker); got != 0 {
		t.Errorf("KEDA wants %d jobs of an empty queue", got)
	}
	stats := callDefault(t, http.MethodGet, "http://"+s.addr+"/api/queue/films/stats", admin, "")
	if released := fmt.Sprint(stats["counts"].(map[string]any)["released"]); released != "3" {
		t.Errorf("the job released %s of 3 tasks: %v", released, stats)
	}
}

// readManifest reads what the chart renders; a test of tools/chart holds the file to the chart.
func readManifest(t *testing.T) manifest {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "tools", "chart", "testdata", "scaled.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	all := manifest{}
	for docs := yaml.NewDecoder(bytes.NewReader(text)); ; {
		one := all[""] // of the type
		if err := docs.Decode(&one); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[one.Kind+"/"+one.Metadata.Name] = one
	}
}

// podRunner runs a program with the arguments of a pod. The folders that a pod mounts are below dir, and the name of the service
// is the address of the server.
type podRunner struct {
	dir, addr, database string
}

// args returns the arguments of a pod without its addresses to listen on.
func (r podRunner) args(template podTemplate) (args []string) {
	for _, arg := range template.Spec.Containers[0].Args {
		if strings.HasPrefix(arg, "--addr=") || strings.HasPrefix(arg, "--metrics-addr=") {
			continue
		}
		arg = strings.Replace(arg, "/etc/pgqueue", r.dir, 1)
		args = append(args, strings.Replace(arg, "jobs-pgqueue-server:8080", r.addr, 1))
	}
	return args
}

// run runs the program of a pod to its end, which must be a success.
func (r podRunner) run(t *testing.T, program string, template podTemplate) {
	t.Helper()
	if code, out := r.exit(t, program, template); code != 0 {
		t.Fatalf("%s ended with exit code %d\n%s", program, code, out)
	}
}

// exit runs the program of a pod to its end, and returns its exit code and its output.
func (r podRunner) exit(t *testing.T, program string, template podTemplate) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(programs(t), program), r.args(template)...)
	cmd.Env = append(os.Environ(), r.database, "PGQUEUE_CONFIG="+filepath.Join(r.dir, "none"))
	if program == "pgqueue-worker" {
		cmd.Env = os.Environ() // a worker of the chart has no database
	}
	out, err := cmd.CombinedOutput()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return failed.ExitCode(), string(out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, string(out)
}

// createWithToken creates a task with the payload {} in the namespace default.
func createWithToken(t *testing.T, addr, token, queue string) {
	t.Helper()
	callDefault(t, http.MethodPost, "http://"+addr+"/api/task", token, `{"queue":"`+queue+`","payload":{}}`)
}

// callDefault sends a request that names no namespace in its head, and returns the answer, which must be a success.
func callDefault(t *testing.T, method, address, token, body string) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= http.StatusBadRequest {
		t.Fatalf("%s %s: got %d %s (%v)", method, address, res.StatusCode, text, err)
	}
	var answer map[string]any
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// askReplicas asks the URL of a trigger with its token, takes the number at its path, and divides it like KEDA for AverageValue.
func askReplicas(t *testing.T, objects manifest, key, addr, token string) int {
	t.Helper()
	object := objects[key]
	trigger := object.Spec.Triggers[0]
	asked, err := url.Parse(trigger.Metadata.URL)
	if err != nil || asked.Host != "jobs-pgqueue-server.prod:8080" || trigger.Metadata.AuthMode != "bearer" {
		t.Fatalf("the trigger is %+v: %v", trigger, err)
	}
	asked.Host = addr

	answer := callDefault(t, http.MethodGet, asked.String(), token, "")
	slots, isNumber := answer[trigger.Metadata.ValueLocation].(float64)
	if !isNumber {
		t.Fatalf("no number %s in %v", trigger.Metadata.ValueLocation, answer)
	}
	target, err := strconv.ParseFloat(trigger.Metadata.TargetValue, 64)
	if err != nil {
		t.Fatal(err)
	}
	return min(int(math.Ceil(slots/target)), object.Spec.MaxReplicaCount)
}
