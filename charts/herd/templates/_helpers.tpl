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

{{/* Labels of everything; those that selectors use cannot be overridden. */}}
{{- define "herd.commonLabels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_"))
  "app.kubernetes.io/name" (default .Chart.Name .Values.nameOverride)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/part-of" "herd"
  "app.kubernetes.io/managed-by" .Release.Service
-}}
{{- toYaml (mergeOverwrite (deepCopy .Values.commonLabels) $own) -}}
{{- end -}}

{{- define "herd.labels" -}}
{{- $component := dict "app.kubernetes.io/component" "operator" -}}
{{- toYaml (mergeOverwrite (include "herd.commonLabels" . | fromYaml) $component) -}}
{{- end -}}

{{/* The operator's labels and further ones: (dict "more" … "root" $) */}}
{{- define "herd.labelsAnd" -}}
{{- toYaml (mergeOverwrite (deepCopy .more) (include "herd.labels" .root | fromYaml)) -}}
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
