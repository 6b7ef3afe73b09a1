{{/* Rights of the operator in the namespaces of its pipelines. */}}
{{- define "herd.rules" -}}
# The pipelines and their status.
- apiGroups: [herd.dev]
  resources: [herdpipelines]
  verbs: [get, list, watch, patch]
- apiGroups: [herd.dev]
  resources: [herdpipelines/status]
  verbs: [patch]
# Owner references with blockOwnerDeletion.
- apiGroups: [herd.dev]
  resources: [herdpipelines/finalizers]
  verbs: [update]
# Objects of a stage.
- apiGroups: [""]
  resources: [configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
# Never deleted by the operator: they are garbage-collected with their pipeline.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors]
  verbs: [get, list, create, patch, delete]
# Why pods are not ready, for the conditions of the pipeline.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# Credentials; watched, so that the pods are replaced when one changes.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
# Events, as shown by `kubectl describe`.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
