{{/* What the operator does where its pipelines are. */}}
{{- define "herd.rules" -}}
# What it is asked for, and what it answers.
- apiGroups: [herd.dev]
  resources: [herdpipelines]
  verbs: [get, list, watch, patch]
- apiGroups: [herd.dev]
  resources: [herdpipelines/status]
  verbs: [patch]
# Owner references that hold the owner back (blockOwnerDeletion).
- apiGroups: [herd.dev]
  resources: [herdpipelines/finalizers]
  verbs: [update]
# What a stage is made of.
- apiGroups: [""]
  resources: [configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
# They go with their pipeline alone, by Kubernetes' own hand.
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
# What keeps a pod from getting ready, for the condition that says so.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
# Kafka's credentials; watched, so that a changed one rolls the pods.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch]
# The story that `kubectl describe` tells.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
