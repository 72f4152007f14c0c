package chart

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	sigsyaml "sigs.k8s.io/yaml"
)

// least holds the values that a user must set.
const least = "database: {existingSecret: db}\n"

// everything switches on all features of the chart.
const everything = `
database: {existingSecret: db, key: url, ownerKey: owner, listenKey: listen, pooler: true, schema: jobs}
tls: {existingSecret: port, clientCASecret: authorities}
auth:
  kubernetes: true
  oidc: {issuer: "https://id.example.com", clientID: pgqueue, existingSecret: login}
  accessFile:
    issuers: [{issuer: "https://kubernetes.default.svc", audience: pgqueue, ca_file: /etc/pgqueue/cluster/ca.crt}]
    rules: [{issuer: "https://kubernetes.default.svc", claim: sub, is: "system:serviceaccount:mail:*", grant: [worker@default]}]
image: {registry: registry.example.org/x, tag: v9, pullSecrets: [{name: pull}]}
server:
  trustedProxies: [10.0.0.0/8, "fd00::/8"]
  publicURL: https://queue.example.com
  autoscaling: {enabled: true}
  env: [{name: OTEL_TRACES_EXPORTER, value: none}]
  podAnnotations: {a: b}
  nodeSelector: {disk: ssd}
  tolerations: [{key: k, operator: Exists}]
workers:
  - name: hooks
    queues: [hooks, mail]
    url: https://hooks.example.org/task
    secret: {name: hooks, key: secret}
    autoscaling: {enabled: true, minReplicas: 0, maxReplicas: 20}
    concurrency: 50
    podAnnotations: {rotated: "1"}
  - {name: exec, queues: [build], exec: "./build.sh 'a b'", image: "example.org/builder:1", replicas: 0, env: [{name: A, value: b}]}
  - {name: films, queues: [films], url: "https://films.example.org", autoscaling: {enabled: true, kind: ScaledJob, minReplicas: 1, within: 5m}}
definitions: {file: "queues: {films: {}}"}
serviceAccount: {annotations: {a: b}}
networkPolicy: {enabled: true, from: [{podSelector: {}}], databaseTo: [{ipBlock: {cidr: 10.0.0.0/8}}], egress: [{ports: [{port: 4318}], to: [{namespaceSelector: {}}]}]}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
`

// render returns the objects of the chart by kind and name. It decodes the kinds of Kubernetes strictly.
func render(t *testing.T, values string) (map[string]any, error) { return renderIn(t, values, nil) }

// renderIn is render for an upgrade of a cluster with secrets, by their names; nil renders without a cluster.
func renderIn(t *testing.T, values string, secrets map[string]map[string]any) (map[string]any, error) {
	t.Helper()
	chart, err := loader.Load("../../deploy/helm/pgqueue")
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]any{}
	if err := sigsyaml.Unmarshal([]byte(values), &given); err != nil {
		t.Fatal(err)
	}
	top, err := util.ToRenderValues(chart, given, common.ReleaseOptions{Name: "jobs", Namespace: "prod", IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	var files map[string]string
	if secrets == nil {
		files, err = engine.Render(chart, top)
	} else {
		files, err = engine.RenderWithClientProvider(chart, top, cluster{secrets: secrets})
	}
	if err != nil {
		return nil, err
	}
	objects := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".txt") || strings.HasSuffix(name, ".tpl") {
			continue
		}
		docs := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(files[name])))
		for {
			doc, err := docs.Read()
			if err == io.EOF {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if len(bytes.TrimSpace(doc)) == 0 {
				continue
			}
			key, object, err := decode(doc)
			if err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", name, err, doc)
			}
			if key == "" {
				continue
			}
			if objects[key] != nil {
				return nil, fmt.Errorf("%s is there twice", key)
			}
			objects[key] = object
		}
	}
	return objects, nil
}

// cluster answers the look-ups of secrets.
type cluster struct {
	dynamic.NamespaceableResourceInterface
	secrets map[string]map[string]any
}

func (c cluster) GetClientFor(string, string) (dynamic.NamespaceableResourceInterface, bool, error) {
	return c, true, nil
}

func (c cluster) Namespace(string) dynamic.ResourceInterface { return c }

func (c cluster) Get(_ context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	data, ok := c.secrets[name]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
	}
	return &unstructured.Unstructured{Object: map[string]any{"data": data}}, nil
}

// TestUpgradeKeepsTokens: an upgrade keeps the tokens that the cluster has, makes the ones that are new in this version, and refuses a
// secret of the user without the token of the definitions.
func TestUpgradeKeepsTokens(t *testing.T) {
	const values = least + "definitions: {file: 'queues: {}'}\n"
	installed, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	former := installed["Secret/jobs-pgqueue-tokens"].(*corev1.Secret).StringData
	data := map[string]any{}
	for key, text := range former {
		if key != "definitions" { // as of a version without it
			data[key] = base64.StdEncoding.EncodeToString([]byte(text))
		}
	}
	upgraded, err := renderIn(t, values, map[string]map[string]any{"jobs-pgqueue-tokens": data})
	if err != nil {
		t.Fatal(err)
	}
	secret := upgraded["Secret/jobs-pgqueue-tokens"].(*corev1.Secret).StringData
	for _, key := range []string{"admin", "worker", "metrics"} {
		if secret[key] != former[key] || !strings.Contains(secret["tokens"], former[key]) {
			t.Errorf("the upgrade changes the token %s", key)
		}
	}
	if !strings.Contains(secret["tokens"], secret["definitions"]+" admin@default") {
		t.Errorf("the upgrade makes no token of the definitions: %q", secret["tokens"])
	}

	const own = values + "auth: {existingSecret: mine}\n"
	if _, err := renderIn(t, own, map[string]map[string]any{"mine": data}); err == nil || !strings.Contains(err.Error(), `auth.existingSecret: must have the key definitions beside definitions.file, got "mine" without it`) {
		t.Errorf("a secret without the token of the definitions: %v", err)
	}
	data["definitions"] = base64.StdEncoding.EncodeToString([]byte("pgq_x"))
	if _, err := renderIn(t, own, map[string]map[string]any{"mine": data}); err != nil {
		t.Errorf("a secret with the token: %v", err)
	}
	if _, err := renderIn(t, own, map[string]map[string]any{}); err != nil {
		t.Errorf("a secret that comes later: %v", err)
	}
}

// custom lists the kinds that do not belong to Kubernetes itself.
var custom = []string{"keda.sh/v1alpha1/ScaledObject", "keda.sh/v1alpha1/ScaledJob", "keda.sh/v1alpha1/TriggerAuthentication", "monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PodMonitor"}

func decode(doc []byte) (string, any, error) {
	var head struct {
		APIVersion, Kind string
		Metadata         struct{ Name string }
	}
	var all map[string]any
	if err := sigsyaml.UnmarshalStrict(doc, &all); err != nil || len(all) == 0 {
		return "", nil, err
	}
	if err := sigsyaml.Unmarshal(doc, &head); err != nil {
		return "", nil, err
	}
	key := head.Kind + "/" + head.Metadata.Name
	if slices.Contains(custom, head.APIVersion+"/"+head.Kind) {
		return key, all, nil
	}
	object, _, err := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer().Decode(doc, nil, nil)
	return key, object, err
}

func TestChart(t *testing.T) {
	t.Run("the least values give servers, their service, a budget and migrations", func(t *testing.T) {
		got, err := render(t, least)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"Deployment/jobs-pgqueue-server", "Job/jobs-pgqueue-migrate", "PodDisruptionBudget/jobs-pgqueue-server",
			"Secret/jobs-pgqueue-tokens", "Service/jobs-pgqueue-server", "ServiceAccount/jobs-pgqueue",
		}
		if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, want) {
			t.Errorf("objects %v", keys)
		}
	})
	t.Run("all values give all objects", func(t *testing.T) {
		got, err := render(t, everything)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"ConfigMap/jobs-pgqueue-definitions", "ConfigMap/jobs-pgqueue-server-access",
			"Deployment/jobs-pgqueue-server", "Deployment/jobs-pgqueue-worker-exec", "Deployment/jobs-pgqueue-worker-hooks",
			"HorizontalPodAutoscaler/jobs-pgqueue-server", "Job/jobs-pgqueue-definitions", "Job/jobs-pgqueue-migrate", "NetworkPolicy/jobs-pgqueue-server",
			"NetworkPolicy/jobs-pgqueue-worker", "PodDisruptionBudget/jobs-pgqueue-server", "PodMonitor/jobs-pgqueue-worker",
			"ScaledJob/jobs-pgqueue-worker-films", "ScaledObject/jobs-pgqueue-worker-hooks", "Secret/jobs-pgqueue-tokens", "Service/jobs-pgqueue-server",
			"ServiceAccount/jobs-pgqueue", "ServiceMonitor/jobs-pgqueue-server", "TriggerAuthentication/jobs-pgqueue-worker-films",
			"TriggerAuthentication/jobs-pgqueue-worker-hooks",
		}
		if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, want) {
			t.Errorf("objects %v", keys)
		}
		server := got["Deployment/jobs-pgqueue-server"].(*appsv1.Deployment)
		if server.Spec.Replicas != nil {
			t.Error("the autoscaler and the chart both say how many servers there are")
		}
		exec := got["Deployment/jobs-pgqueue-worker-exec"].(*appsv1.Deployment)
		if exec.Spec.Replicas == nil || *exec.Spec.Replicas != 0 {
			t.Error("no replicas are none")
		}
		container := exec.Spec.Template.Spec.Containers[0]
		if container.Image != "example.org/builder:1" || !slices.Contains(container.Args, "--exec=./build.sh 'a b'") {
			t.Errorf("%s %q", container.Image, container.Args)
		}
		job := got["Job/jobs-pgqueue-migrate"].(*batchv1.Job)
		if c := job.Spec.Template.Spec.Containers[0]; c.Image != "registry.example.org/x/pgqueue:v9" || c.Env[0].ValueFrom.SecretKeyRef.Key != "owner" {
			t.Errorf("%s by %s", c.Image, c.Env[0].ValueFrom.SecretKeyRef.Key)
		}
	})
	t.Run("the servers come closed, with tokens of the form that they demand", func(t *testing.T) {
		got, err := render(t, everything+"auth: {}\n")
		if err != nil {
			t.Fatal(err)
		}
		secret := got["Secret/jobs-pgqueue-tokens"].(*corev1.Secret).StringData
		form := regexp.MustCompile(`^pgq_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}$`)
		for _, key := range []string{"admin", "worker", "metrics", "definitions"} {
			if !form.MatchString(secret[key]) {
				t.Errorf("%s: %q", key, secret[key])
			}
		}
		if want := secret["admin"] + "\n" + secret["worker"] + " worker@default\n" + secret["metrics"] + " metrics@*\n" + secret["definitions"] + " admin@default\n"; secret["tokens"] != want {
			t.Errorf("the file has %q, want %q", secret["tokens"], want)
		}

		server := got["Deployment/jobs-pgqueue-server"].(*appsv1.Deployment).Spec.Template.Spec
		if !slices.Contains(server.Containers[0].Args, "--admin-token-file=/etc/pgqueue/tokens/tokens") || server.Volumes[0].Secret.Items[0].Key != "tokens" {
			t.Errorf("servers: %v", server.Containers[0].Args)
		}
		worker := got["Deployment/jobs-pgqueue-worker-exec"].(*appsv1.Deployment).Spec.Template.Spec
		// A command of a worker can read each mounted key, so the token with every right must not be there.
		if items := worker.Volumes[1].Secret.Items; len(items) != 1 || items[0].Key != "worker" {
			t.Errorf("workers mount %v", items)
		}

		own, err := render(t, least+"auth: {existingSecret: mine}\n")
		if err != nil {
			t.Fatal(err)
		}
		if name := own["Deployment/jobs-pgqueue-server"].(*appsv1.Deployment).Spec.Template.Spec.Volumes[0].Secret.SecretName; name != "mine" || own["Secret/jobs-pgqueue-tokens"] != nil {
			t.Errorf("the secret is %s", name)
		}
	})
	t.Run("servers read the access file, and can ask their cluster for its keys", func(t *testing.T) {
		got, err := render(t, everything)
		if err != nil {
			t.Fatal(err)
		}
		server := got["Deployment/jobs-pgqueue-server"].(*appsv1.Deployment).Spec.Template.Spec
		if !slices.Contains(server.Containers[0].Args, "--access-file=/etc/pgqueue/access/access.yaml") || len(server.Volumes) != 6 || len(server.Containers[0].VolumeMounts) != 6 {
			t.Fatalf("servers: %v, volumes %v", server.Containers[0].Args, server.Volumes)
		}
		if sources := server.Volumes[2].Projected.Sources; sources[0].ServiceAccountToken.Path != "token" || sources[1].ConfigMap.Name != "kube-root-ca.crt" {
			t.Errorf("the cluster: %v", sources)
		}
		file := got["ConfigMap/jobs-pgqueue-server-access"].(*corev1.ConfigMap).Data["access.yaml"]
		var content map[string]any
		if err := sigsyaml.Unmarshal([]byte(file), &content); err != nil || len(content["issuers"].([]any)) != 1 || len(content["rules"].([]any)) != 1 {
			t.Errorf("the access file is %q: %v", file, err)
		}

		plain, err := render(t, least)
		if err != nil {
			t.Fatal(err)
		}
		if volumes := plain["Deployment/jobs-pgqueue-server"].(*appsv1.Deployment).Spec.Template.Spec.Volumes; len(volumes) != 1 {
			t.Errorf("without these values: %v", volumes)
		}
	})
	t.Run("servers speak TLS with client certificates, know their proxies, and sign users in", func(t *testing.T) {
		got, err := render(t, everything)
		if err != nil {
			t.Fatal(err)
		}
		server := got["Deployment/jobs-pgqueue-server"].(*appsv1.Deployment).Spec.Template.Spec
		container := server.Containers[0]
		for _, arg := range []string{
			"--tls-cert-file=/etc/pgqueue/tls/tls.crt", "--tls-key-file=/etc/pgqueue/tls/tls.key", "--tls-client-ca-file=/etc/pgqueue/clients/ca.crt",
			"--trusted-proxy=10.0.0.0/8", "--trusted-proxy=fd00::/8", "--public-url=https://queue.example.com",
			"--oidc-issuer=https://id.example.com", "--oidc-client-id=pgqueue", "--oidc-client-secret-file=/etc/pgqueue/oidc/client-secret",
		} {
			if !slices.Contains(container.Args, arg) {
				t.Errorf("servers have no %s: %v", arg, container.Args)
			}
		}
		mounted := map[string]string{}
		for _, m := range container.VolumeMounts {
			mounted[m.Name] = m.MountPath
		}
		for _, volume := range server.Volumes {
			if mounted[volume.Name] == "" {
				t.Errorf("the volume %s is not mounted", volume.Name)
			}
			if s := volume.Secret; s != nil && (s.SecretName == "port" && len(s.Items) != 2 || s.SecretName == "authorities" && s.Items[0].Key != "ca.crt" || s.SecretName == "login" && s.Items[0].Key != "client-secret") {
				t.Errorf("servers mount %v", s)
			}
		}
		for _, probe := range []*corev1.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
			if probe.HTTPGet.Scheme != corev1.URISchemeHTTPS {
				t.Errorf("a probe asks by %s", probe.HTTPGet.Scheme)
			}
		}

		worker := got["Deployment/jobs-pgqueue-worker-exec"].(*appsv1.Deployment).Spec.Template.Spec
		if args := worker.Containers[0].Args; !slices.Contains(args, "--url=https://jobs-pgqueue-server:8080/api") || !slices.Contains(args, "--ca-file=/etc/pgqueue/ca/ca.crt") {
			t.Errorf("workers: %v", args)
		}
		if items := worker.Volumes[2].Secret.Items; len(items) != 1 || items[0].Key != "ca.crt" {
			t.Errorf("workers mount %v of the port", items)
		}
		endpoint := got["ServiceMonitor/jobs-pgqueue-server"].(map[string]any)["spec"].(map[string]any)["endpoints"].([]any)[0].(map[string]any)
		if endpoint["scheme"] != "https" || endpoint["tlsConfig"] == nil {
			t.Errorf("Prometheus asks %v", endpoint)
		}
	})
	t.Run("monitors keep the namespace label, and servers reach the configured addresses", func(t *testing.T) {
		got, err := render(t, everything)
		if err != nil {
			t.Fatal(err)
		}
		for key, endpoints := range map[string]string{"ServiceMonitor/jobs-pgqueue-server": "endpoints", "PodMonitor/jobs-pgqueue-worker": "podMetricsEndpoints"} {
			for _, e := range got[key].(map[string]any)["spec"].(map[string]any)[endpoints].([]any) {
				if e.(map[string]any)["honorLabels"] != true {
					t.Errorf("%s replaces the label namespace", key)
				}
			}
		}
		policy := got["NetworkPolicy/jobs-pgqueue-server"].(*networkingv1.NetworkPolicy)
		if last := policy.Spec.Egress[len(policy.Spec.Egress)-1]; len(policy.Spec.Egress) != 3 || last.Ports[0].Port.IntValue() != 4318 {
			t.Errorf("egress %v", policy.Spec.Egress)
		}
	})
	t.Run("every pod runs without rights, within limits, and secrets come by reference", func(t *testing.T) {
		got, err := render(t, everything)
		if err != nil {
			t.Fatal(err)
		}
		pods := map[string]corev1.PodSpec{}
		for key, object := range got {
			switch o := object.(type) {
			case *appsv1.Deployment:
				pods[key] = o.Spec.Template.Spec
				if o.Spec.Selector.MatchLabels["app.kubernetes.io/component"] != o.Spec.Template.Labels["app.kubernetes.io/component"] {
					t.Errorf("%s selects pods that are not its own", key)
				}
				c := o.Spec.Template.Spec.Containers[0]
				if c.LivenessProbe == nil || c.LivenessProbe.HTTPGet.Path != "/livez" || c.ReadinessProbe == nil || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
					t.Errorf("%s is not probed", key)
				}
			case *batchv1.Job:
				pods[key] = o.Spec.Template.Spec
			case map[string]any:
				if strings.HasPrefix(key, "ScaledJob/") {
					pods[key] = readJob(t, o).Template.Spec
				}
			}
		}
		if len(pods) != 6 {
			t.Fatalf("%d pods", len(pods))
		}
		for key, pod := range pods {
			s := pod.SecurityContext
			if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil || *pod.AutomountServiceAccountToken {
				t.Errorf("%s: the pod's security", key)
			}
			for _, c := range pod.Containers {
				s := c.SecurityContext
				if s == nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
					t.Errorf("%s: the container's security", key)
				}
				if c.Resources.Requests.Cpu().IsZero() || c.Resources.Limits.Memory().IsZero() {
					t.Errorf("%s: resources", key)
				}
				for _, e := range c.Env {
					if strings.Contains(e.Name, "URL") && (e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil) {
						t.Errorf("%s: %s does not come from a secret", key, e.Name)
					}
				}
			}
		}
	})
	t.Run("pods are given more time than their drain takes, in each unit", func(t *testing.T) {
		for duration, want := range map[string]int64{"25s": 60, "10m": 635, "1.5m": 125, "500ms": 36, "2h": 7235} {
			got, err := render(t, everything+"worker: {drainTime: "+duration+"}")
			if err != nil {
				t.Fatal(err)
			}
			pod := got["Deployment/jobs-pgqueue-worker-hooks"].(*appsv1.Deployment).Spec.Template
			if *pod.Spec.TerminationGracePeriodSeconds != want || pod.Annotations["rotated"] != "1" {
				t.Errorf("drainTime %s: got %d s, want %d; annotations %v", duration, *pod.Spec.TerminationGracePeriodSeconds, want, pod.Annotations)
			}
		}
		got, err := render(t, least+"server: {drainDelay: 30s, stopTimeout: 2m}")
		if err != nil {
			t.Fatal(err)
		}
		if grace := *got["Deployment/jobs-pgqueue-server"].(*appsv1.Deployment).Spec.Template.Spec.TerminationGracePeriodSeconds; grace != 185 {
			t.Errorf("got %d s for drainDelay 30s and stopTimeout 2m", grace)
		}
	})
	t.Run("KEDA reaches the servers through a network policy that names its callers", func(t *testing.T) {
		const closed = least + "networkPolicy: {enabled: true, from: [{podSelector: {}}]}\n"
		const keda = "workers: [{name: w, queues: [q], url: 'https://x.example', autoscaling: {enabled: true}}]\n"
		for values, want := range map[string]int{closed: 2, closed + keda: 3, least + "networkPolicy: {enabled: true}\n" + keda: 2, closed + "definitions: {file: 'queues: {}'}\n": 3} {
			got, err := render(t, values)
			if err != nil {
				t.Fatal(err)
			}
			peers := got["NetworkPolicy/jobs-pgqueue-server"].(*networkingv1.NetworkPolicy).Spec.Ingress[0].From
			asks := slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
				return p.NamespaceSelector != nil && p.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"] == "keda"
			})
			if len(peers) != want || asks != (values == closed+keda) {
				t.Errorf("%s: got %v", values, peers)
			}
			if len(got["NetworkPolicy/jobs-pgqueue-worker"].(*networkingv1.NetworkPolicy).Spec.Ingress[0].From) != 1 {
				t.Error("KEDA asks no worker")
			}
		}
	})
	t.Run("KEDA asks the server for the slots that the queues have work for", testScaling)
	t.Run("workers in jobs end by themselves, and nothing cuts a running one", testScaledJob)
	t.Run("the migration needs no other object of the chart", testMigrationNeedsNothing)
	t.Run("a job applies the definitions as they were given", testDefinitions)
	for name, values := range map[string]string{
		"existingSecret":                "{}",
		"replicas":                      least + "server: {replicas: 0}",
		"logLevel":                      least + "server: {logLevel: loud}",
		"servers":                       least + "servers: {replicas: 2}",
		"schema":                        "database: {existingSecret: db, schema: Jobs}",
		"workers":                       least + "workers: [{name: w, queues: [mail]}]",
		"queues":                        least + "workers: [{name: w, queues: [], url: 'https://example.org'}]",
		"kedaFrom":                      least + "networkPolicy: {kedaFrom: []}",
		"egress":                        least + "networkPolicy: {egress: [4318]}",
		"targetAgeSeconds":              least + "workers: [{name: w, queues: [q], url: 'https://x.example', autoscaling: {enabled: true, targetAgeSeconds: 30}}]",
		"terminationGracePeriodSeconds": least + "workers: [{name: w, queues: [q], url: 'https://x.example', terminationGracePeriodSeconds: 20}]",
		"untilEmpty":                    least + "workers: [{name: w, queues: [q], url: 'https://x.example', autoscaling: {enabled: true, untilEmpty: 10s}}]",
		"maxTasks":                      least + "workers: [{name: w, queues: [q], url: 'https://x.example', autoscaling: {enabled: true, kind: ScaledJob, maxTasks: 0}}]",
		"kind":                          least + "workers: [{name: w, queues: [q], url: 'https://x.example', autoscaling: {enabled: true, kind: Job}}]",
		"definitions":                   least + "definitions: {queues: {mail: {}}}",
		"drainTime":                     least + "worker: {drainTime: 25}",
		"accessFile":                    least + "auth: {accessFile: {users: []}}",
		"clientCASecret":                least + "tls: {clientCASecret: authorities}",
		"oidc":                          least + "auth: {oidc: {issuer: 'https://id.example.com', clientID: pgqueue}}",
		"issuer":                        least + "auth: {oidc: {issuer: 'id.example.com'}}",
		"trustedProxies":                least + "server: {trustedProxies: 10.0.0.0/8}",
	} {
		t.Run("values at fault are refused: "+name, func(t *testing.T) {
			_, err := render(t, values)
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%v", err)
			}
		})
	}
}

// readJob returns what KEDA makes a job of.
func readJob(t *testing.T, scaledJob map[string]any) (spec batchv1.JobSpec) {
	t.Helper()
	text, err := json.Marshal(scaledJob["spec"].(map[string]any)["jobTargetRef"])
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

// configData returns the data of a ConfigMap.
func configData(object any) map[string]string {
	if c, ok := object.(*corev1.ConfigMap); ok {
		return c.Data
	}
	return nil
}

// scaledObject has the fields of a KEDA ScaledObject that the chart sets.
type scaledObject struct {
	Spec struct {
		Advanced struct {
			HorizontalPodAutoscalerConfig struct {
				Behavior struct {
					ScaleDown struct{ StabilizationWindowSeconds int }
				}
			}
		}
		Triggers []struct {
			Type, MetricType string
			Metadata         struct{ URL, ValueLocation, TargetValue, AuthMode string }
		}
	}
}

// testScaling reads the trigger like KEDA 2.18, which takes a number at a path of the answer, and holds route, parameters and
// field to the description of the REST API.
func testScaling(t *testing.T) {
	rendered, err := render(t, everything)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(rendered["ScaledObject/jobs-pgqueue-worker-hooks"])
	if err != nil {
		t.Fatal(err)
	}
	var object scaledObject
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&object); err != nil {
		t.Fatal(err)
	}
	if window := object.Spec.Advanced.HorizontalPodAutoscalerConfig.Behavior.ScaleDown.StabilizationWindowSeconds; window != 300 || len(object.Spec.Triggers) != 1 {
		t.Fatalf("must have one trigger and a window of 300 s, got %+v", object.Spec)
	}
	trigger := object.Spec.Triggers[0]
	const want = "https://jobs-pgqueue-server.prod:8080/api/queue/hooks/scale?namespace=default&within=30s&queue=mail"
	if m := trigger.Metadata; trigger.Type != "metrics-api" || trigger.MetricType != "AverageValue" || m.URL != want || m.TargetValue != "50" || m.AuthMode != "bearer" {
		t.Errorf("must divide the slots of the queues by those of a replica, got %+v", trigger)
	}

	source, err := os.ReadFile("../../transport/rest/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Paths map[string]struct {
			Get struct {
				Parameters []struct{ Name string }
				Responses  map[string]struct {
					Content map[string]struct {
						Schema struct {
							Ref string `json:"$ref"`
						}
					}
				}
			}
		}
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Type any }
			}
		}
	}
	if err := sigsyaml.Unmarshal(source, &api); err != nil {
		t.Fatal(err)
	}
	route := api.Paths["/queue/{name}/scale"].Get
	known := map[string]bool{"namespace": true} // of every route
	for _, p := range route.Parameters {
		known[p.Name] = true
	}
	asked, err := url.Parse(trigger.Metadata.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name := range asked.Query() {
		if !known[name] {
			t.Errorf("the route has no parameter %s", name)
		}
	}
	schema := strings.TrimPrefix(route.Responses["200"].Content["application/json"].Schema.Ref, "#/components/schemas/")
	if kind := api.Components.Schemas[schema].Properties[trigger.Metadata.ValueLocation].Type; kind != "number" {
		t.Errorf("%s of %q must be a number, got %v", trigger.Metadata.ValueLocation, schema, kind)
	}
}

// TestGrantsOfDefinitions: the servers read the file of tokens as a whole, so no definition may put a line into it that they refuse.
func TestGrantsOfDefinitions(t *testing.T) {
	system, err := render(t, least+"definitions: {file: \"namespace: pgqueue\\nqueues: {}\\n---\\nqueues: {}\"}\n")
	if err != nil {
		t.Fatal(err)
	}
	if tokens := system["Secret/jobs-pgqueue-tokens"].(*corev1.Secret).StringData["tokens"]; strings.Contains(tokens, "@pgqueue") || !strings.Contains(tokens, "admin@default") {
		t.Errorf("the system namespace is among the grants: %q", tokens)
	}

	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf("namespace: n%d", i)
	}
	if _, err := render(t, least+fmt.Sprintf("definitions: {file: %q}\n", strings.Join(many, "\n---\n"))); err == nil || !strings.Contains(err.Error(), "must have at most 100 namespaces, which are the grants of a token, got 101") {
		t.Errorf("101 namespaces: %v", err)
	}
}
