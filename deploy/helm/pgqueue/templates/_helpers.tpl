{{- define "pgqueue.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "pgqueue.selector" -}}
app.kubernetes.io/name: pgqueue
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "pgqueue.labels" -}}
{{ include "pgqueue.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "pgqueue.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "pgqueue.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- /* An image of a repository: (list . repository) */}}
{{- define "pgqueue.image" -}}
{{- $v := (index . 0).Values.image }}
{{- with $v.registry }}{{ . }}/{{ end }}{{ index . 1 }}:{{ $v.tag | default (index . 0).Chart.AppVersion }}
{{- end }}

{{- /* What every pod of ours is. */}}
{{- define "pgqueue.pod" -}}
serviceAccountName: {{ include "pgqueue.serviceAccount" . }}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* A duration, as 1.5m, in whole seconds, rounded up. */}}
{{- define "pgqueue.seconds" -}}
{{- $unit := regexFind "[a-z]+$" . }}
{{- mulf (trimSuffix $unit . | float64) (get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0) $unit) | ceil | int }}
{{- end }}

{{- /* The namespaces of the documents of definitions.file, as a JSON list. A name at fault is left out: the job says what is wrong
with it, and a grant of it would be a wrong line in the servers' file of tokens. */}}
{{- define "pgqueue.definedNamespaces" -}}
{{- $names := list }}
{{- if .Values.definitions.file }}
{{- range regexSplit "(?m)^---(?:[ \t].*)?$" .Values.definitions.file -1 }}
{{- $name := get (fromYaml .) "namespace" | default $.Values.server.namespace | toString | trim | lower }}
{{- if and (regexMatch "^[a-z][a-z0-9_-]{0,62}$" $name) (ne $name "pgqueue") }}{{ $names = append $names $name }}{{ end }}
{{- end }}
{{- end }}
{{- $names = uniq $names }}
{{- if gt (len $names) 100 }}
{{- fail (printf "definitions.file: must have at most 100 namespaces, which are the grants of a token, got %d; split it into releases" (len $names)) }}
{{- end }}
{{- toJson $names }}
{{- end }}

{{- /* The secret with the tokens: keys admin, worker, metrics, definitions, and tokens, which is the server's file of them. */}}
{{- define "pgqueue.tokens" -}}
{{- .Values.auth.existingSecret | default (printf "%s-tokens" (include "pgqueue.name" .)) }}
{{- end }}

{{- /* A token in the form that the server demands of its file. */}}
{{- define "pgqueue.newToken" -}}
pgq_{{ randAlphaNum 8 }}_{{ randAlphaNum 38 }}
{{- end }}

{{- /* The scheme of the servers' port. */}}
{{- define "pgqueue.scheme" -}}
{{- if .Values.tls.existingSecret }}https{{ else }}http{{ end }}
{{- end }}

{{- /* The URL of the servers for pods of the chart. */}}
{{- define "pgqueue.url" -}}
{{ include "pgqueue.scheme" . }}://{{ include "pgqueue.name" . }}-server:{{ .Values.server.service.port }}
{{- end }}

{{- define "pgqueue.container" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* The connection string from the secret: (list . key name) */}}
{{- define "pgqueue.secret" -}}
- name: {{ index . 2 }}
  valueFrom:
    secretKeyRef:
      name: {{ required "database.existingSecret: name the secret that has the connection string" (index . 0).Values.database.existingSecret }}
      key: {{ index . 1 }}
{{- end }}
