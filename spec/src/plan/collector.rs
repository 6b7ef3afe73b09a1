//! The collector stage.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::unique;
use super::stage::is_ingress;
use super::{StagePlan, WriteKeyName};
use crate::pipeline::{AuthSpec, CollectorSpec, ContextSpec, LimitsSpec, SecretRef};
use crate::problem::{Invalid, SpecPath};

/// A range of addresses: `10.0.0.0/8`.
pub type AddressRange = ipnet::IpNet;

/// The collector stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectorPlan {
    /// Write keys; empty: no key is asked for.
    pub keys: Vec<WriteKeyPlan>,
    /// Origins of web pages that may send; `*` is all.
    pub origins: Vec<String>,
    /// Addresses of proxies whose word about their clients is taken.
    #[serde(default)]
    pub trusted_proxies: Vec<AddressRange>,
    /// What is added to events from their requests. Where nothing is, a plan reads as before, and no pods are replaced.
    #[serde(default, skip_serializing_if = "is_default")]
    pub context: ContextSpec,
    /// What one collector takes at once.
    pub limits: LimitsSpec,
    /// Its size.
    pub stage: StagePlan,
}

/// A write key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteKeyPlan {
    /// What logs and metrics call it.
    pub name: WriteKeyName,
    /// Where its value is.
    pub secret: SecretRef,
    /// Events a second; none: no limit.
    pub events_per_second: Option<u32>,
}

impl CollectorPlan {
    pub(super) fn parse(spec: &CollectorSpec, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let ingress = at.optional("ingress", spec.ingress.as_ref(), is_ingress);
        let limit = spec.limits.events_per_second_per_key;
        let keys = at.optional("auth", spec.auth.as_ref(), |auth, at| keys(auth, limit, at));
        let origins = at.child("cors").child("origins").each(&spec.cors.origins, origin);
        let trusted_proxies = at.child("trustedProxies").each(&spec.trusted_proxies, address_range);
        let context = context(spec, &at.child("context"));
        let limits = limits(&spec.limits, &at.child("limits"));
        let at = at.child("stage");
        let stage = StagePlan::parse(&spec.stage, &at);
        let awake = at.child("scaling").child("min").require(
            spec.stage.scaling.as_ref().is_none_or(|scaling| scaling.min > 0),
            "must be at least 1: events that come while no collector runs are refused",
        );
        ingress?;
        awake?;
        Ok(Self {
            keys: keys?.unwrap_or_default(),
            origins: origins?,
            trusted_proxies: trusted_proxies?,
            context: context?,
            limits: limits?,
            stage: stage?,
        })
    }
}

fn is_default(context: &ContextSpec) -> bool {
    *context == ContextSpec::default()
}

fn keys(auth: &AuthSpec, limit: Option<u32>, at: &SpecPath<'_>) -> Result<Vec<WriteKeyPlan>, Invalid> {
    let at = at.child("keys");
    let some =
        at.require(!auth.keys.is_empty(), "is empty: nobody could write; add a key or leave out `auth`");
    let unique = unique(auth.keys.iter().map(|key| key.name.as_str()), &at);
    let keys = at.each(&auth.keys, |key, at| {
        Ok(WriteKeyPlan {
            name: WriteKeyName::parse(&key.name, &at.child("name"))?,
            secret: key.secret_ref.clone(),
            events_per_second: key.events_per_second.or(limit),
        })
    });
    some.and(unique)?;
    keys
}

fn origin(written: &String, at: &SpecPath<'_>) -> Result<String, Invalid> {
    let host = written.strip_prefix("https://").or_else(|| written.strip_prefix("http://"));
    let legal =
        written == "*" || host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ']));
    at.require(legal, format!("`{written}` is not an origin: write scheme and host without a path, e.g. `https://shop.example`, or `*`"))?;
    Ok(written.clone())
}

fn address_range(written: &String, at: &SpecPath<'_>) -> Result<AddressRange, Invalid> {
    written.parse().map_err(|_| {
        at.invalid(format!(
            "`{written}` is not a range of addresses: write a CIDR, e.g. `10.0.0.0/8` or `2001:db8::/32`"
        ))
    })
}

fn context(spec: &CollectorSpec, at: &SpecPath<'_>) -> Result<ContextSpec, Invalid> {
    let at = at.child("countryHeader");
    if let Some(header) = &spec.context.country_header {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        at.require(
            header.bytes().all(legal) && !header.is_empty(),
            format!("`{header}` is not the name of a header: write letters, digits, `-` and `_`, e.g. `CF-IPCountry`"),
        )?;
        at.require(
            !spec.trusted_proxies.is_empty(),
            "is read only in requests from trusted proxies, because any other client could forge it: write the addresses of the proxies in `trustedProxies`",
        )?;
    }
    Ok(spec.context.clone())
}

fn limits(limits: &LimitsSpec, at: &SpecPath<'_>) -> Result<LimitsSpec, Invalid> {
    let order = at.child("inflatedBytes").require(
        limits.inflated_bytes >= limits.body_bytes,
        format!("is {}, must be at least `bodyBytes` ({})", limits.inflated_bytes, limits.body_bytes),
    );
    let timeout = |name: &str, timeout| {
        at.child(name).between(timeout, Duration::from_millis(100), Duration::from_secs(600))
    };
    let header = timeout("headerTimeout", limits.header_timeout);
    let body = timeout("bodyTimeout", limits.body_timeout);
    let ack = timeout("ackTimeout", limits.ack_timeout);
    order.and(header).and(body).and(ack)?;
    Ok(limits.clone())
}
