{{/* The release's part in names: the chart's name is not repeated. */}}
{{- define "herd.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := .Release.Name -}}
{{- if .Values.fullnameOverride -}}
{{- $full = .Values.fullnameOverride -}}
{{- else if not (contains $name .Release.Name) -}}
{{- $full = printf "%s-%s" .Release.Name $name -}}
{{- end -}}
{{- $full | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* What the operator's objects are called. */}}
{{- define "herd.operator" -}}
{{- include "herd.fullname" . }}-operator
{{- end -}}

{{/* What cluster-wide objects are called: two releases in different namespaces do not meet. */}}
{{- define "herd.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "herd.operator" .) -}}
{{- end -}}

{{- define "herd.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "herd.operator" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "herd.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "herd.labels" -}}
{{ include "herd.commonLabels" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "herd.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") | quote }}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: herd
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image with its digest, or its tag: (dict "image" … "chart" .Chart) */}}
{{- define "herd.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .chart.AppVersion .image.tag }}
{{- end -}}
{{- end -}}

{{/* The restricted Pod Security Standard, and a root file system that cannot be written. */}}
{{- define "herd.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "herd.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
