//! The operator against a real API server with its controllers and kubelet: `HERD_TEST_KUBECONFIG` names its kubeconfig, `HERD_TEST_KAFKA`
//! (optional, `host:port`, as the operator reaches it) adds what needs a broker. Each test has a namespace of its own and runs an
//! operator of its own for it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod crash;
mod deletion;
mod env;
mod field_changes;
mod lease;
mod objects;
mod rejections;
mod single_reconcile;
mod topics;
