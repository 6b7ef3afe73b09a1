//! What a schema cannot say: names, references, exactly-one-of, bounds that depend on one another.

mod detection;
mod resources;

use std::collections::BTreeSet;
use std::time::Duration;

use jsonschema::paths::LocationSegment;

use super::{Problem, did_you_mean, listed};
use crate::pipeline::{
    AggregateFunction, HerdPipeline, IngressSpec, KafkaSpec, MetricSpec, SaslMechanism, SinkSpec, StageSpec,
    WebhookSpec,
};
use crate::scale::schedule::{MAX_FLOORS, Schedule, time_zone};
use crate::wire::FieldPath;

const HOST_SAYS: &str = "write lower-case letters, digits, `-` and dots, e.g. `events.shop.example`";

/// All problems of meaning.
pub(super) fn problems(pipeline: &HerdPipeline) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    let spec = &pipeline.spec;
    if let Some(name) = pipeline.metadata.name.as_deref() {
        found.name("metadata.name", name, 50);
    }
    if let Some(kafka) = &spec.kafka {
        found.kafka(kafka);
    }
    found.events(pipeline);
    found.collector(pipeline);
    found.unique("spec.metrics", spec.metrics.iter().map(|metric| metric.name.as_str()));
    for (at, metric) in spec.metrics.iter().enumerate() {
        found.metric(&format!("spec.metrics[{at}]"), metric);
    }
    let metrics: Vec<&str> = spec.metrics.iter().map(|metric| metric.name.as_str()).collect();
    found.unique("spec.detectors", spec.detectors.iter().map(|detector| detector.name.as_str()));
    for (at, detector) in spec.detectors.iter().enumerate() {
        let path = format!("spec.detectors[{at}]");
        found.detector(&path, detector, &metrics);
        let watched = spec.metrics.iter().find(|metric| metric.name == detector.metric);
        let uncounted = |metric: &&MetricSpec| {
            matches!(metric.aggregate.function, AggregateFunction::Sum | AggregateFunction::Mean)
        };
        if let Some(metric) = watched.filter(uncounted)
            && detector.algorithm.poisson.is_some()
        {
            found.add(
                format!("{path}.algorithm.poisson"),
                format!(
                    "is for counts, and `{}` is none: watch a `count` or `unique` metric, or use `ewma` or `mad`",
                    metric.name
                ),
            );
        }
    }
    found.unique("spec.sinks", spec.sinks.iter().map(|sink| sink.name.as_str()));
    for (at, sink) in spec.sinks.iter().enumerate() {
        found.sink(&format!("spec.sinks[{at}]"), sink);
    }
    found.stage("spec.detection", &spec.detection);
    found.stage("spec.api.stage", &spec.api.stage);
    if spec.api.stage.scaling.is_some() {
        found.add(
            "spec.api.stage.scaling",
            "the api has nothing that waits, by which it could be scaled: remove it, write `replicas`",
        );
    }
    found.ingress("spec.api.ingress", spec.api.ingress.as_ref());
    if let Some(store) = &spec.api.store {
        let stores = spec.sinks.iter().filter(|sink| sink.postgres.is_some() || sink.sqlite.is_some());
        let stores: Vec<&str> = stores.map(|sink| sink.name.as_str()).collect();
        found.known("spec.api.store", store, &stores, "a postgres or sqlite sink");
    }
    found.0
}

struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem::new(path, message));
    }

    fn name(&mut self, path: &str, name: &str, longest: usize) {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts || name.ends_with('-') || !name.chars().all(legal) || name.len() > longest {
            self.add(path, format!("`{name}` is not a name: write up to {longest} lower-case letters, digits and `-`, starting with a letter, e.g. `flash-crowd`"));
        }
    }

    fn unique<'a>(&mut self, path: &str, names: impl Iterator<Item = &'a str>) {
        let mut seen = BTreeSet::new();
        for (at, name) in names.enumerate() {
            self.name(&format!("{path}[{at}].name"), name, 40);
            if !seen.insert(name) {
                self.add(
                    format!("{path}[{at}].name"),
                    format!("`{name}` is there twice: names are unique in this list"),
                );
            }
        }
    }

    fn known(&mut self, path: &str, name: &str, names: &[&str], what: &str) {
        if !names.contains(&name) {
            let hint = did_you_mean(name, names.iter().copied());
            self.add(
                path,
                format!(
                    "`{name}` is not the name of {what}{hint} (there is {})",
                    listed(names.iter().copied())
                ),
            );
        }
    }

    fn field(&mut self, path: &str, field: &str) {
        if FieldPath::parse(field).is_none() {
            self.add(path, format!("`{field}` is not a field: write `item_id`, `user_id`, `type`, `event_id` or names joined by single dots, e.g. `cart.total`"));
        }
    }

    fn between(&mut self, path: &str, value: Duration, least: Duration, most: Duration) {
        if value < least || value > most {
            let [value, least, most] = [value, least, most].map(crate::pipeline::Span);
            self.add(path, format!("is {value}, must be from {least} to {most}"));
        }
    }

    fn kafka(&mut self, kafka: &KafkaSpec) {
        let path = "spec.kafka";
        if kafka.bootstrap_servers.is_empty() {
            self.add(
                format!("{path}.bootstrapServers"),
                "is empty: write at least one `host:port`, or leave out `kafka` for the embedded broker",
            );
        }
        for (at, server) in kafka.bootstrap_servers.iter().enumerate() {
            let port = server.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
            if !port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0)) {
                self.add(
                    format!("{path}.bootstrapServers[{at}]"),
                    format!("`{server}` is not an address: write `host:port`, e.g. `kafka:9092`"),
                );
            }
        }
        if let Some(prefix) = &kafka.topic_prefix {
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if prefix.is_empty()
                || prefix.len() > 200
                || !prefix.chars().all(legal)
                || prefix.starts_with('.')
            {
                self.add(format!("{path}.topicPrefix"), format!("`{prefix}` cannot begin the name of a topic: write 1 to 200 letters, digits, `.`, `_` and `-`"));
            }
        }
        if let (Some(sasl), None) = (&kafka.sasl, &kafka.tls)
            && sasl.mechanism == SaslMechanism::Plain
        {
            self.add(
                format!("{path}.sasl.mechanism"),
                "PLAIN sends the password as it is: add `tls`, or write `SCRAM-SHA-512`",
            );
        }
        if let Some(tls) = &kafka.tls
            && tls.certificate.is_some() != tls.key.is_some()
        {
            self.add(format!("{path}.tls"), "`certificate` and `key` belong together: write both or neither");
        }
        for (setting, message) in [
            ("cleanup.policy", "differs from topic to topic, and counting relies on it: remove it"),
            ("retention.ms", "is set by `retention`: write it there, e.g. `retention: 7d`"),
        ] {
            if kafka.config.contains_key(setting) {
                self.add(format!("{path}.config.{setting}"), message);
            }
        }
        self.between(
            &format!("{path}.retention"),
            kafka.retention.0,
            Duration::from_secs(3600),
            Duration::from_secs(3650 * 86_400),
        );
    }

    fn events(&mut self, pipeline: &HerdPipeline) {
        let events = &pipeline.spec.events;
        let mapping = &events.mapping;
        let paths = [
            ("id", &mapping.id),
            ("type", &mapping.event_type),
            ("user", &mapping.user),
            ("item", &mapping.item),
            ("time", &mapping.time),
        ];
        for (name, alternatives) in paths {
            for (at, path) in alternatives.iter().enumerate() {
                if path.split('.').any(str::is_empty) {
                    self.add(format!("spec.events.mapping.{name}[{at}]"), format!("`{path}` is not a path: write names joined by single dots, e.g. `context.user.id`"));
                }
            }
        }
        if mapping.event_type.is_empty() {
            self.add(
                "spec.events.mapping.type",
                "is empty: an event needs a type, so name the field that holds it",
            );
        }
        if let Some(empty) = events.types.iter().position(String::is_empty) {
            self.add(
                format!("spec.events.types[{empty}]"),
                "is empty: write the name of a type, or remove it",
            );
        }
        self.field("spec.events.key", &events.key);
        self.between(
            "spec.events.maxLateness",
            events.max_lateness.0,
            Duration::ZERO,
            Duration::from_secs(600),
        );
        self.between(
            "spec.events.maxClockSkew",
            events.max_clock_skew.0,
            Duration::ZERO,
            Duration::from_secs(3600),
        );
        if !events.max_age.0.is_zero() {
            // Less than any lateness would refuse what is merely late.
            self.between(
                "spec.events.maxAge",
                events.max_age.0,
                Duration::from_secs(600),
                Duration::from_secs(36_500 * 86_400),
            );
        }
        if let Some(schema) = &events.schema
            && let Err(error) = jsonschema::validator_for(schema)
        {
            let mut path = "spec.events.schema".to_owned();
            for segment in error.instance_path() {
                path = match segment {
                    LocationSegment::Property(name) => format!("{path}.{name}"),
                    LocationSegment::Index(index) => format!("{path}[{index}]"),
                };
            }
            self.add(path, format!("is not a JSON Schema: {error}"));
        }
    }

    fn ingress(&mut self, path: &str, ingress: Option<&IngressSpec>) {
        let Some(ingress) = ingress else { return };
        let host = ingress.host.strip_prefix("*.").unwrap_or(&ingress.host);
        let label = |label: &str| {
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            !label.is_empty() && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
        };
        if !host.split('.').all(label) {
            self.add(format!("{path}.host"), format!("`{host}` is not a host: {HOST_SAYS}"));
        }
        if !ingress.path.starts_with('/') {
            self.add(format!("{path}.path"), format!("`{}` is not a path: begin it with `/`", ingress.path));
        }
    }

    fn collector(&mut self, pipeline: &HerdPipeline) {
        let collector = &pipeline.spec.collector;
        self.ingress("spec.collector.ingress", collector.ingress.as_ref());
        if let Some(auth) = &collector.auth {
            if auth.keys.is_empty() {
                self.add(
                    "spec.collector.auth.keys",
                    "is empty: nobody could write; add a key or leave out `auth`",
                );
            }
            self.unique("spec.collector.auth.keys", auth.keys.iter().map(|key| key.name.as_str()));
        }
        for (at, origin) in collector.cors.origins.iter().enumerate() {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            if origin != "*" && !host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ']))
            {
                self.add(format!("spec.collector.cors.origins[{at}]"), format!("`{origin}` is not an origin: write scheme and host without a path, e.g. `https://shop.example`, or `*`"));
            }
        }
        for (at, range) in collector.trusted_proxies.iter().enumerate() {
            if range.parse::<crate::plan::AddressRange>().is_err() {
                self.add(
                    format!("spec.collector.trustedProxies[{at}]"),
                    format!("`{range}` is not a range of addresses: write a CIDR, e.g. `10.0.0.0/8` or `2001:db8::/32`"),
                );
            }
        }
        let limits = &collector.limits;
        if limits.inflated_bytes < limits.body_bytes {
            self.add(
                "spec.collector.limits.inflatedBytes",
                format!("is {}, must be at least `bodyBytes` ({})", limits.inflated_bytes, limits.body_bytes),
            );
        }
        let (short, long) = (Duration::from_millis(100), Duration::from_secs(600));
        self.between("spec.collector.limits.headerTimeout", limits.header_timeout.0, short, long);
        self.between("spec.collector.limits.bodyTimeout", limits.body_timeout.0, short, long);
        self.between("spec.collector.limits.ackTimeout", limits.ack_timeout.0, short, long);
        self.stage("spec.collector.stage", &collector.stage);
        if collector.stage.scaling.as_ref().is_some_and(|scaling| scaling.min == 0) {
            self.add(
                "spec.collector.stage.scaling.min",
                "must be at least 1: events that come while no collector runs are refused",
            );
        }
    }

    fn sink(&mut self, path: &str, sink: &SinkSpec) {
        if sink.druid.is_some() {
            self.add(format!("{path}.druid"), "is reserved and not available in this version: remove it");
        }
        let set =
            [sink.postgres.is_some(), sink.sqlite.is_some(), sink.webhook.is_some(), sink.druid.is_some()];
        if set.iter().filter(|set| **set).count() != 1 {
            self.add(path, "must have exactly one of `postgres`, `sqlite`, `webhook`");
        }
        if let Some(postgres) = &sink.postgres
            && let Some(schema) = &postgres.schema
        {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if schema.is_empty()
                || schema.len() > 63
                || !schema.chars().all(legal)
                || schema.starts_with(|c: char| c.is_ascii_digit())
                || schema.starts_with("pg_")
            {
                self.add(format!("{path}.postgres.schema"), format!("`{schema}` is not the name of a schema: write up to 63 lower-case letters, digits and `_`, not starting with a digit or `pg_`"));
            }
        }
        if let Some(sqlite) = &sink.sqlite
            && let Some(file) = &sqlite.path
            && (file.is_empty() || file.starts_with('/') || file.split('/').any(|part| part == ".."))
        {
            self.add(format!("{path}.sqlite.path"), format!("`{file}` must be a file inside the data folder: write a relative path without `..`, e.g. `shop.db`"));
        }
        if let Some(webhook) = &sink.webhook {
            self.webhook(&format!("{path}.webhook"), webhook);
        }
        self.stage(&format!("{path}.stage"), &sink.stage);
    }

    fn webhook(&mut self, path: &str, webhook: &WebhookSpec) {
        match (&webhook.url, &webhook.url_from) {
            (Some(_), Some(_)) | (None, None) => {
                self.add(path, "must have exactly one of `url` and `urlFrom`")
            }
            (Some(url), None) => {
                let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
                if !rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(' '))
                {
                    self.add(
                        format!("{path}.url"),
                        format!("`{url}` is not an address: write `https://host/path`"),
                    );
                }
            }
            (None, Some(_)) => {}
        }
        self.between(
            &format!("{path}.timeout"),
            webhook.timeout.0,
            Duration::from_millis(100),
            Duration::from_secs(120),
        );
    }

    fn stage(&mut self, path: &str, stage: &StageSpec) {
        if let Some(resources) = &stage.resources {
            self.resources(&format!("{path}.resources"), resources);
        }
        let Some(scaling) = &stage.scaling else { return };
        if scaling.min > scaling.max {
            self.add(
                format!("{path}.scaling"),
                format!("`min` ({}) must not be more than `max` ({})", scaling.min, scaling.max),
            );
        }
        self.between(
            &format!("{path}.scaling.catchUp"),
            scaling.catch_up.0,
            Duration::from_secs(5),
            Duration::from_secs(86_400),
        );
        self.between(
            &format!("{path}.scaling.stabilisation"),
            scaling.stabilisation.0,
            Duration::ZERO,
            Duration::from_secs(86_400),
        );
        if scaling.floors.len() > MAX_FLOORS {
            self.add(
                format!("{path}.scaling.floors"),
                format!("has {} entries, at most {MAX_FLOORS} are allowed", scaling.floors.len()),
            );
        }
        for (index, floor) in scaling.floors.iter().enumerate() {
            let path = format!("{path}.scaling.floors[{index}]");
            if floor.min > scaling.max {
                let message = format!("`min` ({}) must not be more than `max` ({})", floor.min, scaling.max);
                self.add(path.clone(), message);
            }
            let day = Duration::from_secs(86_400);
            self.between(&format!("{path}.for"), floor.lasts.0, Duration::from_secs(60), day);
            if let Err(error) = floor.schedule.parse::<Schedule>() {
                self.add(format!("{path}.schedule"), error.to_string());
            }
            if let Err(error) = time_zone(&floor.time_zone) {
                self.add(format!("{path}.timeZone"), error.to_string());
            }
        }
    }
}
