{{- /* The pod of a worker, for a Deployment or for the jobs of a ScaledJob: (list $top worker) */}}
{{- define "pgqueue.workerPod" -}}
{{- $top := index . 0 }}
{{- $w := index . 1 }}
{{- $scaling := $w.autoscaling | default dict }}
{{- $job := eq (include "pgqueue.scalesJobs" $w) "true" }}
metadata:
  labels:
    {{- include "pgqueue.labels" $top | nindent 4 }}
    app.kubernetes.io/component: worker
    pgqueue/worker: {{ $w.name }}
  {{- with $w.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "pgqueue.pod" $top | nindent 2 }}
  {{- if $job }}
  # KEDA makes another job when there is work left.
  restartPolicy: Never
  {{- end }}
  {{- $drain := include "pgqueue.seconds" $top.Values.worker.drainTime | int }}
  {{- $grace := $w.terminationGracePeriodSeconds | default (add $drain 35) | int }}
  {{- if le $grace $drain }}
  {{- fail (printf "workers.%s.terminationGracePeriodSeconds: must be more than worker.drainTime (%d s), got %d" $w.name $drain $grace) }}
  {{- end }}
  # Longer than drainTime and the end of commands: an earlier kill would cut running tasks.
  terminationGracePeriodSeconds: {{ $grace }}
  containers:
    - name: worker
      image: {{ $w.image | default (include "pgqueue.image" (list $top $top.Values.worker.repository)) }}
      {{- include "pgqueue.container" $top | nindent 6 }}
      args:
        - --url={{ include "pgqueue.url" $top }}/api
        - --auth-token-file=/etc/pgqueue/token/worker
        {{- if $top.Values.tls.existingSecret }}
        - --ca-file=/etc/pgqueue/ca/ca.crt
        {{- end }}
        - --namespace={{ $w.namespace | default $top.Values.server.namespace }}
        {{- range $w.queues }}
        - --queue={{ . }}
        {{- end }}
        {{- with $w.url }}
        - --http={{ . }}
        {{- end }}
        {{- with $w.exec }}
        - {{ printf "--exec=%s" . | quote }}
        {{- end }}
        {{- if $w.allowPrivate }}
        - --allow-private
        {{- end }}
        - --concurrency={{ $w.concurrency | default 10 }}
        - --drain-time={{ $top.Values.worker.drainTime }}
        {{- if $job }}
        - --until-empty={{ $scaling.untilEmpty | default "10s" }}
        {{- with $scaling.maxTasks }}
        - --max-tasks={{ . }}
        {{- end }}
        {{- end }}
        - --metrics-addr=:9090
        - --log-format=json
      env:
        # The worker's name is the pod's name, so a pod differs from its successor.
        - name: PGQUEUE_WORKER_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        {{- with $w.secret }}
        # Signs the requests to the URL.
        - name: PGQUEUE_WORKER_SECRET
          valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .key }}}}
        {{- end }}
        {{- with $w.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: metrics, containerPort: 9090}
      livenessProbe:
        httpGet: {path: /livez, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 5
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        periodSeconds: 5
        timeoutSeconds: 5
      resources:
        {{- toYaml ($w.resources | default $top.Values.worker.resources) | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: token, mountPath: /etc/pgqueue/token, readOnly: true}
        {{- if $top.Values.tls.existingSecret }}
        - {name: ca, mountPath: /etc/pgqueue/ca, readOnly: true}
        {{- end }}
  volumes:
    - {name: tmp, emptyDir: {}}
    - name: token
      secret: {secretName: {{ include "pgqueue.tokens" $top }}, items: [{key: worker, path: worker}]}
    {{- with $top.Values.tls.existingSecret }}
    # A command of the worker can read each mounted key, so the key of the servers must not be there.
    - name: ca
      secret: {secretName: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
    {{- end }}
{{- end }}

{{- /* Whether KEDA makes jobs of a worker, in place of a Deployment that it scales. */}}
{{- define "pgqueue.scalesJobs" -}}
{{- $scaling := .autoscaling | default dict }}
{{- and $scaling.enabled (eq ($scaling.kind | default "ScaledObject") "ScaledJob") }}
{{- end }}
