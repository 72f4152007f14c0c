package chart

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	sigsyaml "sigs.k8s.io/yaml"
)

// kedaVersions are the first version of KEDA that values.yaml promises and a late one, with their checksums of the module system.
// Its packages take minutes to compile, so the test reads its files.
var kedaVersions = map[string]string{
	"v2.12.0": "h1:yvonNclPzmqIW9S9/aVMjeBnCsS6a85MXtXrK9nma9M=",
	"v2.21.0": "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
}

// scaled has a worker of each kind of scaling, and definitions. Its tokens are not generated, so that each rendering is the same.
const scaled = `
database: {existingSecret: db}
auth: {existingSecret: tokens}
workers:
  - {name: fast, queues: [mail, hooks], exec: "true", image: "example.org/fast:1", concurrency: 5, autoscaling: {enabled: true, maxReplicas: 20}}
  - name: long
    queues: [films]
    exec: "true"
    image: example.org/long:1
    concurrency: 2
    autoscaling: {enabled: true, kind: ScaledJob, maxReplicas: 4, untilEmpty: 1s, maxTasks: 100}
definitions:
  file: |
    queues:
      mail: {retries: 5}
      hooks: {}
      films: {lease: 10m}
    tickers:
      nightly: {cron: "0 3 * * *", queue: films}
`

var update = flag.Bool("update", false, "write testdata/scaled.yaml")

// TestKEDA holds the objects of KEDA to the schemas of its releases, and their triggers to the parameters that its scaler reads.
func TestKEDA(t *testing.T) {
	for version, sum := range kedaVersions {
		t.Run(version, func(t *testing.T) { testKEDA(t, downloadKEDA(t, version, sum)) })
	}
}

func testKEDA(t *testing.T, dir string) {
	t.Helper()
	for _, values := range []string{everything, scaled} {
		objects, err := render(t, values)
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[string]bool{}
		for key, object := range objects {
			kind, _, _ := strings.Cut(key, "/")
			if !slices.Contains(custom, "keda.sh/v1alpha1/"+kind) {
				continue
			}
			kinds[kind] = true
			if err := readKEDASchema(t, dir, kind).Validate(object); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
		if !kinds["ScaledObject"] || !kinds["TriggerAuthentication"] || !kinds["ScaledJob"] {
			t.Errorf("the chart has only the kinds %v", kinds)
		}
	}

	t.Run("a field that KEDA does not know is refused", func(t *testing.T) {
		objects, err := render(t, scaled)
		if err != nil {
			t.Fatal(err)
		}
		job := objects["ScaledJob/jobs-pgqueue-worker-long"].(map[string]any)
		job["spec"].(map[string]any)["maxReplicas"] = 4
		if err := readKEDASchema(t, dir, "ScaledJob").Validate(job); err == nil || !strings.Contains(err.Error(), "maxReplicas") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("each parameter of a trigger is one that the scaler reads", func(t *testing.T) {
		known := readScalerParameters(t, dir)
		objects, err := render(t, scaled)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"ScaledObject/jobs-pgqueue-worker-fast", "ScaledJob/jobs-pgqueue-worker-long"} {
			trigger := objects[key].(map[string]any)["spec"].(map[string]any)["triggers"].([]any)[0].(map[string]any)
			for name := range trigger["metadata"].(map[string]any) {
				if !slices.Contains(known, name) {
					t.Errorf("%s: the scaler reads %v, not %s", key, known, name)
				}
			}
		}
		auth := objects["TriggerAuthentication/jobs-pgqueue-worker-long"].(map[string]any)["spec"].(map[string]any)["secretTargetRef"].([]any)[0].(map[string]any)
		if !slices.Contains(known, auth["parameter"].(string)) {
			t.Errorf("the scaler reads %v, not %v", known, auth["parameter"])
		}
	})
}

// TestRendered writes the manifest that the tests of the programs read: they start the programs as its pods do.
func TestRendered(t *testing.T) {
	const file = "testdata/scaled.yaml"
	objects, err := render(t, scaled)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, key := range []string{
		"Job/jobs-pgqueue-migrate", "Deployment/jobs-pgqueue-server", "ConfigMap/jobs-pgqueue-definitions", "Job/jobs-pgqueue-definitions",
		"Deployment/jobs-pgqueue-worker-fast", "ScaledObject/jobs-pgqueue-worker-fast", "ScaledJob/jobs-pgqueue-worker-long",
	} {
		one, err := sigsyaml.Marshal(objects[key])
		if err != nil || objects[key] == nil {
			t.Fatal(key, err)
		}
		text.WriteString("---\n")
		text.Write(one)
	}
	if *update {
		if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if had, err := os.ReadFile(file); err != nil || !bytes.Equal(had, text.Bytes()) {
		t.Errorf("%s is not what the chart renders (%v); run this test with -update", file, err)
	}
}

// downloadKEDA returns the folder with the files of KEDA's module.
func downloadKEDA(t *testing.T, version, sum string) string {
	t.Helper()
	module := "github.com/kedacore/keda/v2@" + version
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
	cmd.Dir = t.TempDir() // outside of each module, so that it becomes no requirement of one
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if got.Sum != sum {
		t.Fatalf("%s has the checksum %s, want %s", module, got.Sum, sum)
	}
	return got.Dir
}

// readKEDASchema returns the schema of a kind, in which an object has only the properties that the schema names.
func readKEDASchema(t *testing.T, dir, kind string) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "config", "crd", "bases", "keda.sh_"+strings.ToLower(kind)+"s.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var definition struct {
		Spec struct {
			Versions []struct {
				Name   string
				Schema struct{ OpenAPIV3Schema map[string]any }
			}
		}
	}
	if err := sigsyaml.Unmarshal(text, &definition); err != nil {
		t.Fatal(err)
	}
	if v := definition.Spec.Versions; len(v) != 1 || v[0].Name != "v1alpha1" {
		t.Fatalf("versions %v", v)
	}
	schema := definition.Spec.Versions[0].Schema.OpenAPIV3Schema
	closeObjects(schema)

	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("kind.json", schema); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("kind.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// closeObjects adds to each object with properties that others are not allowed. Kubernetes drops those without a message.
func closeObjects(schema any) {
	switch s := schema.(type) {
	case []any:
		for _, one := range s {
			closeObjects(one)
		}
	case map[string]any:
		_, named := s["properties"].(map[string]any)
		if named && s["type"] == "object" && s["x-kubernetes-preserve-unknown-fields"] != true {
			s["additionalProperties"] = false
		}
		for _, one := range s {
			closeObjects(one)
		}
	}
}

// readScalerParameters returns the names in the tags of the fields that KEDA's scaler fills; before 2.15 it read maps.
func readScalerParameters(t *testing.T, dir string) (names []string) {
	t.Helper()
	tag := regexp.MustCompile("(?:`keda:\"name=|TriggerMetadata\\[\"|AuthParams\\[\")([^,\"]+)")
	for _, file := range []string{"metrics_api_scaler.go", "authentication/authentication_types.go"} {
		source, err := os.ReadFile(filepath.Join(dir, "pkg", "scalers", file))
		if err != nil && (file != "authentication/authentication_types.go" || !errors.Is(err, fs.ErrNotExist)) {
			t.Fatal(err)
		}
		for _, found := range tag.FindAllSubmatch(source, -1) {
			names = append(names, strings.Split(string(found[1]), ";")...)
		}
	}
	return names
}

// testScaledJob checks that KEDA adds jobs that end by themselves, and that nothing cuts a running one.
func testScaledJob(t *testing.T) {
	objects, err := render(t, scaled)
	if err != nil {
		t.Fatal(err)
	}
	if objects["Deployment/jobs-pgqueue-worker-long"] != nil {
		t.Error("a worker in jobs has a Deployment too")
	}
	text, err := json.Marshal(objects["ScaledJob/jobs-pgqueue-worker-long"].(map[string]any)["spec"])
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		ScalingStrategy struct{ Strategy string }
		Rollout         struct{ Strategy string }
		MaxReplicaCount int
		Triggers        []struct {
			MetricType string
			Metadata   struct{ URL, TargetValue string }
		}
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}

	// The slots include the tasks in hand; the strategy accurate would count the running jobs twice.
	if spec.ScalingStrategy.Strategy != "default" || spec.Rollout.Strategy != "gradual" || spec.MaxReplicaCount != 4 {
		t.Errorf("got %+v", spec)
	}
	if trigger := spec.Triggers[0]; trigger.MetricType != "AverageValue" || trigger.Metadata.TargetValue != "2" || !strings.Contains(trigger.Metadata.URL, "/api/queue/films/scale?") {
		t.Errorf("got the trigger %+v", trigger)
	}
	job := readJob(t, objects["ScaledJob/jobs-pgqueue-worker-long"].(map[string]any))
	pod := job.Template.Spec
	if *job.BackoffLimit != 0 || pod.RestartPolicy != "Never" || *pod.TerminationGracePeriodSeconds != 60 {
		t.Errorf("got the pod %+v", pod)
	}
	for _, arg := range []string{"--until-empty=1s", "--max-tasks=100", "--concurrency=2"} {
		if !slices.Contains(pod.Containers[0].Args, arg) {
			t.Errorf("no %s in %v", arg, pod.Containers[0].Args)
		}
	}
}

// testMigrationNeedsNothing: a hook before the installation would wait forever for an object that comes after it.
func testMigrationNeedsNothing(t *testing.T) {
	objects, err := render(t, everything)
	if err != nil {
		t.Fatal(err)
	}
	pod := objects["Job/jobs-pgqueue-migrate"].(*batchv1.Job).Spec.Template.Spec
	if pod.ServiceAccountName != "" || len(pod.Volumes) != 0 || len(pod.Containers) != 1 {
		t.Errorf("the migration needs %v of the chart", pod)
	}
	for _, env := range pod.Containers[0].Env {
		if env.ValueFrom.SecretKeyRef == nil || env.ValueFrom.SecretKeyRef.Name != "db" {
			t.Errorf("the migration reads %v", env)
		}
	}
}

// testDefinitions checks that the job applies the file as it was given, with the only token that may.
func testDefinitions(t *testing.T) {
	const file = "  queues: # indented\n    mail: {concurrency: 2000000, paused: false}\n\n---\nnamespace: b\n"
	text, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := render(t, strings.Replace(everything, `definitions: {`, `definitions: {prune: true, file: `+string(text)+`} #`, 1))
	if err != nil {
		t.Fatal(err)
	}
	if got := configData(objects["ConfigMap/jobs-pgqueue-definitions"]); got["definitions.yaml"] != file {
		t.Errorf("the file is %q", got)
	}
	job := objects["Job/jobs-pgqueue-definitions"].(*batchv1.Job)
	pod := job.Spec.Template.Spec
	for _, arg := range []string{"--file=/etc/pgqueue/definitions/definitions.yaml", "--prune=true", "--url=https://jobs-pgqueue-server:8080/api", "--ca-file=/etc/pgqueue/ca/ca.crt"} {
		if !slices.Contains(pod.Containers[0].Args, arg) {
			t.Errorf("no %s in %v", arg, pod.Containers[0].Args)
		}
	}
	if items := pod.Volumes[1].Secret.Items; len(items) != 1 || items[0].Key != "definitions" {
		t.Errorf("the job mounts %v", items)
	}
	if on := job.Annotations["helm.sh/hook"]; on != "post-install,post-upgrade,post-rollback" {
		t.Errorf("the job runs at %s", on)
	}
	if rule := job.Spec.PodFailurePolicy.Rules[0]; rule.Action != batchv1.PodFailurePolicyActionFailJob || !slices.Equal(rule.OnExitCodes.Values, []int32{2}) || *rule.OnExitCodes.ContainerName != pod.Containers[0].Name {
		t.Errorf("a file at fault is tried again: %+v", rule)
	}
}

// TestDefinitionsToken: the job of the definitions has a token that is admin of the namespaces of its file, and of nothing else. A
// file at fault makes no wrong line for the servers.
func TestDefinitionsToken(t *testing.T) {
	for file, want := range map[string]string{
		"queues: {mail: {}}": " admin@prod",
		"queues: {mail: {}}\n---\nnamespace: b\nqueues: {x: {}}\n--- # third\n{namespace: ' C ', queues: {}}\n": " admin@prod admin@b admin@c",
		`{"namespace": "shop", "queues": {}}`:                       " admin@shop",
		"namespace: shop\nqueues: {}\n---\nnamespace: shop\n":       " admin@shop",
		"namespace: \"a b\"\nqueues: {}\n":                          "",
		"namespace: \"*\"\n":                                        "",
		"namespace: [a]\n---\nnamespace: {system: '*'}\n":           "",
		"namespace: |\n  a\n  pgq_x system@*\n":                     "",
		"namespace: shop\ntickers: {t: {payload: \"\n  ---\n\"}}\n": " admin@shop",
		"queues: {": " admin@prod",
	} {
		text, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := render(t, least+"server: {namespace: prod}\ndefinitions: {file: "+string(text)+"}\n")
		if err != nil {
			t.Errorf("%q: %v", file, err)
			continue
		}
		secret := got["Secret/jobs-pgqueue-tokens"].(*corev1.Secret).StringData
		lines := strings.Split(strings.TrimSuffix(secret["tokens"], "\n"), "\n")
		if want == "" && len(lines) == 3 {
			continue
		}
		if last := strings.Replace(lines[len(lines)-1], secret["definitions"], "", 1); len(lines) != 4 || last != want {
			t.Errorf("%q: the servers read %q, want %q", file, lines, want)
		}
	}
}
