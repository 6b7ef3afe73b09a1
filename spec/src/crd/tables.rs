//! Additions to the generated schema: CEL rules, bounds, and lists that are maps, each by its path.

mod detectors;

/// Paths, CEL rules there, and their messages.
type Rules = &'static [(&'static str, &'static str, &'static str)];
/// Paths, and upper bounds there.
type Bounds = &'static [(&'static str, i64)];

/// Every rule: its path, expression and message.
pub(super) fn rules() -> impl Iterator<Item = (String, &'static str, &'static str)> {
    TABLES.iter().flat_map(|(places, rules, _)| {
        let at = |place| {
            rules.iter().map(move |(path, rule, message)| (format!("{place}{path}"), *rule, *message))
        };
        places.iter().flat_map(at)
    })
}

/// Every bound: its path and value.
pub(super) fn bounds() -> impl Iterator<Item = (String, i64)> {
    TABLES.iter().flat_map(|(places, _, bounds)| {
        let at = |place| bounds.iter().map(move |(path, most)| (format!("{place}{path}"), *most));
        places.iter().flat_map(at)
    })
}

const NAME: &str = "self.matches('^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$')";
const NAME_MESSAGE: &str = "is not a name: write up to 40 lower-case letters, digits and `-`, starting with a letter, e.g. `flash-crowd`";
const FIELD: &str = "self.matches('^[^.]+([.][^.]+)*$')";
const FIELD_MESSAGE: &str = "is not a field: write `item_id`, `user_id`, `type`, `event_id` or names joined by single dots, e.g. `cart.total`";
const PATH_MESSAGE: &str = "is not a path: write names joined by single dots, e.g. `context.user.id`";
const QUANTITY: &str = "self.all(name, isQuantity(self[name]))";
const QUANTITY_MESSAGE: &str = "is not a quantity: write e.g. `cpu: 250m`, `memory: 512Mi`";
const RESOURCE: &str = "self.all(name, name in ['cpu', 'memory', 'ephemeral-storage'] || name.startsWith('hugepages-') || name.matches('^[a-z0-9.-]+/[A-Za-z0-9._-]+$'))";
const RESOURCE_MESSAGE: &str =
    "has an unknown resource name: write `cpu`, `memory`, `ephemeral-storage`, or e.g. `example.com/gpu`";
const WITHIN: &str = "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || !isQuantity(self.requests[name]) || !isQuantity(self.limits[name]) || quantity(self.requests[name]).compareTo(quantity(self.limits[name])) <= 0)";
const WITHIN_MESSAGE: &str =
    "a request must not be more than its limit: lower it in `requests` or raise it in `limits`";
const TIMEOUT: &str =
    "!self.contains('d') && duration(self) >= duration('100ms') && duration(self) <= duration('10m')";
const TIMEOUT_MESSAGE: &str = "must be from 100ms to 10m";
// `isCIDR` is there from Kubernetes 1.31 on only.
const CIDR: &str = "self.matches('^((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])([.](25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}/(3[0-2]|[12]?[0-9])|[0-9a-fA-F.]*:[0-9a-fA-F:.]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$')";
const CIDR_MESSAGE: &str = "is not a range of addresses: write a CIDR, e.g. `10.0.0.0/8` or `2001:db8::/32`";
const ZONE: &str = "self.matches('^[A-Za-z][A-Za-z0-9_+/-]*$')";
const ZONE_MESSAGE: &str = "is not a time zone: write its IANA name, e.g. `Europe/Berlin`";
const SCALING: &str = "self.min <= self.max";
const SCALING_MESSAGE: &str = "`min` must not be more than `max`: lower `min` or raise `max`";

/// A length of time between two, of which the longer is some days. CEL's durations know no days, and to take the text apart costs more
/// than the API server allows: days that come first are told by a pattern (`days`), other orders (`12h7d`) are left to the operator.
macro_rules! between {
    ($least:literal, $most:literal, $days:literal) => {
        concat!(
            "self.contains('d') ? (!self.matches('^[0-9]+d') || self.matches('",
            $days,
            "')) : (duration(self) >= duration('",
            $least,
            "') && duration(self) <= duration('",
            $most,
            "'))"
        )
    };
}
/// A list in one field of a crontab: `*`, values and ranges of them, each with a step.
macro_rules! cron {
    ($value:literal) => {
        concat!(
            "([*]|",
            $value,
            "(-",
            $value,
            ")?)(/0*[1-9][0-9]{0,2})?(,([*]|",
            $value,
            "(-",
            $value,
            ")?)(/0*[1-9][0-9]{0,2})?)*"
        )
    };
}
const SCHEDULE: &str = concat!(
    "self.matches('^ *",
    cron!("0*[0-5]?[0-9]"),
    " +",
    cron!("0*([01]?[0-9]|2[0-3])"),
    " +",
    cron!("0*([1-9]|[12][0-9]|3[01])"),
    " +",
    cron!("(0*([1-9]|1[0-2])|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))"),
    " +",
    cron!("(0*[0-7]|(?i:sun|mon|tue|wed|thu|fri|sat))"),
    " *$')"
);

/// Path, rule and message.
const RULES: Rules = &[
    (
        "",
        "self.metadata.name.matches('^[a-z]([a-z0-9-]{0,48}[a-z0-9])?$')",
        "metadata.name is not a name: write up to 50 lower-case letters, digits and `-`, starting with a letter, e.g. `shop`",
    ),
    // The prefix that counts is the pipeline's name where none is written, and only here both can be seen.
    (
        "",
        "!has(self.spec.kafka) || !has(oldSelf.spec.kafka) || (has(self.spec.kafka.topicPrefix) ? self.spec.kafka.topicPrefix : self.metadata.name) == (has(oldSelf.spec.kafka.topicPrefix) ? oldSelf.spec.kafka.topicPrefix : oldSelf.metadata.name)",
        "spec.kafka.topicPrefix cannot be changed: events that wait in the topics of the old prefix would never be counted. Create a second pipeline with another name and the new prefix, send events to its collector, and delete this one when its lag is 0",
    ),
    (
        "spec",
        "has(self.kafka)",
        "spec.kafka is missing: on Kubernetes there is no embedded broker, write e.g. `kafka: {bootstrapServers: [kafka:9092]}`",
    ),
    (
        "spec",
        "self.detectors.all(d, self.metrics.exists(m, m.name == d.metric))",
        "a detector watches a metric that is not there: write the name of one of spec.metrics in its `metric`",
    ),
    (
        "spec",
        "self.detectors.all(d, !has(d.algorithm) || !has(d.algorithm.crowd) || self.metrics.all(m, m.name != d.metric || m.aggregate.function == 'count' || m.aggregate.function == 'unique'))",
        "`crowd` is for counts: let it watch a `count` or `unique` metric, or use `level`",
    ),
    (
        "spec",
        "self.detectors.all(d, !has(d.algorithm) || !has(d.algorithm.poisson) || self.metrics.all(m, m.name != d.metric || m.aggregate.function == 'count' || m.aggregate.function == 'unique'))",
        "`poisson` is for counts: let it watch a `count` or `unique` metric, or use `ewma` or `mad`",
    ),
    (
        "spec",
        "!has(self.api.store) || self.sinks.exists(s, s.name == self.api.store && (has(s.postgres) || has(s.sqlite)))",
        "spec.api.store is not the name of a postgres sink: write the name of one, or leave it out for the first",
    ),
    // Kafka
    (
        "spec.kafka.bootstrapServers",
        "self.size() > 0",
        "is empty: write at least one `host:port`, e.g. `kafka:9092`",
    ),
    (
        "spec.kafka.bootstrapServers[]",
        "self.matches('^[^/]+:[1-9][0-9]{0,4}$')",
        "is not an address: write `host:port`, e.g. `kafka:9092`",
    ),
    (
        "spec.kafka.topicPrefix",
        "self.matches('^[a-zA-Z0-9_-][a-zA-Z0-9._-]*$')",
        "cannot begin the name of a topic: write 1 to 200 letters, digits, `.`, `_` and `-`",
    ),
    (
        "spec.kafka",
        "!has(self.sasl) || self.sasl.mechanism != 'PLAIN' || has(self.tls)",
        "sasl.mechanism PLAIN sends the password unencrypted: add `tls`, or write `SCRAM-SHA-512`",
    ),
    (
        "spec.kafka.tls",
        "has(self.certificate) == has(self.key)",
        "`certificate` and `key` belong together: write both or neither",
    ),
    (
        "spec.kafka.config",
        "!('cleanup.policy' in self)",
        "`cleanup.policy` differs from topic to topic, and counting relies on it: remove it",
    ),
    (
        "spec.kafka.config",
        "!('retention.ms' in self)",
        "`retention.ms` is set by `retention`: write it there, e.g. `retention: 7d`",
    ),
    (
        "spec.kafka.retention",
        between!(
            "1h",
            "87600h",
            "^(0+d.|0*([1-9][0-9]{0,2}|[12][0-9]{3}|3[0-5][0-9]{2}|36[0-4][0-9])d|0*3650d$)"
        ),
        "must be from 1h to 3650d",
    ),
    (
        "spec.kafka",
        "self.partitions >= oldSelf.partitions",
        "`partitions` may grow, never shrink: write at least as many as before; fewer need a second pipeline with another name",
    ),
    (
        "spec.kafka",
        "!has(self.detectorPartitions) || !has(oldSelf.detectorPartitions) || self.detectorPartitions == oldSelf.detectorPartitions",
        "`detectorPartitions` is fixed when the topics are created: write the number from before; another number needs a second pipeline with another name",
    ),
    // Events
    (
        "spec.events.mapping.type",
        "self.size() > 0",
        "is empty: an event needs a type, so name the field that holds it, e.g. `[type]`",
    ),
    ("spec.events.mapping.id[]", FIELD, PATH_MESSAGE),
    ("spec.events.mapping.type[]", FIELD, PATH_MESSAGE),
    ("spec.events.mapping.user[]", FIELD, PATH_MESSAGE),
    ("spec.events.mapping.item[]", FIELD, PATH_MESSAGE),
    ("spec.events.mapping.time[]", FIELD, PATH_MESSAGE),
    ("spec.events.types[]", "self != ''", "is empty: write the name of a type, or remove it"),
    ("spec.events.key", FIELD, FIELD_MESSAGE),
    (
        "spec.events.maxLateness",
        "!self.contains('d') && duration(self) <= duration('10m')",
        "must be from 0s to 10m",
    ),
    (
        "spec.events.maxClockSkew",
        "!self.contains('d') && duration(self) <= duration('1h')",
        "must be from 0s to 1h",
    ),
    (
        "spec.events.maxAge",
        "self.contains('d') || duration(self) == duration('0s') || duration(self) >= duration('10m')",
        "must be 0s, for no bound, or from 10m to 36500d",
    ),
    // Collector
    (
        "spec.collector.auth.keys",
        "self.size() > 0",
        "is empty: nobody could write; add a key or leave out `auth`",
    ),
    ("spec.collector.auth.keys[].name", NAME, NAME_MESSAGE),
    (
        "spec.collector.cors.origins[]",
        "self.matches('^([*]|https?://[^/* ]+)$')",
        "is not an origin: write scheme and host without a path, e.g. `https://shop.example`, or `*`",
    ),
    ("spec.collector.trustedProxies[]", CIDR, CIDR_MESSAGE),
    (
        "spec.collector.context.countryHeader",
        "self.matches('^[A-Za-z0-9_-]+$')",
        "is not the name of a header: write letters, digits, `-` and `_`, e.g. `CF-IPCountry`",
    ),
    (
        "spec.collector",
        "!has(self.context.countryHeader) || (has(self.trustedProxies) && self.trustedProxies.size() > 0)",
        "`context.countryHeader` is read only in requests from trusted proxies, because any other client could forge it: write the addresses of the proxies in `trustedProxies`",
    ),
    (
        "spec.collector.limits",
        "self.inflatedBytes >= self.bodyBytes",
        "`inflatedBytes` must be at least `bodyBytes`: raise it",
    ),
    (
        "spec.collector.stage.scaling",
        "self.min >= 1",
        "`min` must be at least 1: events that come while no collector runs are refused",
    ),
    ("spec.collector.limits.headerTimeout", TIMEOUT, TIMEOUT_MESSAGE),
    ("spec.collector.limits.bodyTimeout", TIMEOUT, TIMEOUT_MESSAGE),
    ("spec.collector.limits.ackTimeout", TIMEOUT, TIMEOUT_MESSAGE),
    // Metrics
    ("spec.metrics[].name", NAME, NAME_MESSAGE),
    (
        "spec.metrics[].window",
        "!self.contains('d') && duration(self) >= duration('1s') && duration(self) <= duration('10m')",
        "must be whole seconds from 1s to 10m; for longer periods, aggregate the closed windows in the database",
    ),
    (
        "spec.metrics[]",
        "self.emit == 'adaptive' || (self.emit.contains('d') || self.window.contains('d') ? false : duration(self.emit) >= duration('100ms') && duration(self.emit) <= duration(self.window))",
        "`emit` must be `adaptive`, or from 100ms to the length of the window",
    ),
    (
        "spec.metrics[].key",
        "self.size() > 0",
        "is empty: name the field whose values are counted, e.g. `[item_id]`",
    ),
    ("spec.metrics[].key[]", FIELD, FIELD_MESSAGE),
    (
        "spec.metrics[].aggregate",
        "self.function != 'count' || !has(self.field)",
        "`field` has no meaning for `count`: remove it, or write `function: sum`, `mean` or `unique`",
    ),
    (
        "spec.metrics[].aggregate",
        "self.function == 'count' || has(self.field)",
        "`field` is missing: name the field of which the sum, mean or number of different values is taken",
    ),
    ("spec.metrics[].aggregate.field", FIELD, FIELD_MESSAGE),
    ("spec.metrics[].events.where[].field", FIELD, FIELD_MESSAGE),
    (
        "spec.metrics[].events.where[]",
        "[has(self.__in__), has(self.notIn), has(self.atLeast), has(self.atMost), has(self.exists)].filter(set, set).size() == 1",
        "must have exactly one of `in`, `notIn`, `atLeast`, `atMost`, `exists`",
    ),
    ("spec.metrics[].events.where[].in", "self.size() > 0", "is empty: write at least one value"),
    ("spec.metrics[].events.where[].notIn", "self.size() > 0", "is empty: write at least one value"),
    // Sinks
    ("spec.sinks[].name", NAME, NAME_MESSAGE),
    (
        "spec.sinks[]",
        "!has(self.sqlite)",
        "sqlite is a file of one process, for `herd up`: on Kubernetes write `postgres: {url: {name: <Secret>, key: url}}`",
    ),
    ("spec.sinks[]", "!has(self.druid)", "druid is reserved and not available in this version: remove it"),
    (
        "spec.sinks[].postgres.schema",
        "self.matches('^[a-z_][a-z0-9_]*$') && !self.startsWith('pg_')",
        "is not the name of a schema: write up to 63 lower-case letters, digits and `_`, not starting with a digit or `pg_`",
    ),
    (
        "spec.sinks[].webhook",
        "has(self.url) != has(self.urlFrom)",
        "must have exactly one of `url` and `urlFrom`",
    ),
    (
        "spec.sinks[].webhook.url",
        "self.matches('^https?://[^/ ][^ ]*$')",
        "is not an address: write `https://host/path`",
    ),
    (
        "spec.sinks[].webhook.timeout",
        "!self.contains('d') && duration(self) >= duration('100ms') && duration(self) <= duration('2m')",
        "must be from 100ms to 2m",
    ),
    // Api
    (
        "spec.api.stage",
        "!has(self.scaling)",
        "the api has no consumer lag to scale by: remove `scaling` and set `replicas`",
    ),
];

/// The most items of a list, entries of a map, or characters of a text.
const BOUNDS: Bounds = &[
    ("spec.kafka.bootstrapServers", 32),
    ("spec.kafka.bootstrapServers[]", 260),
    ("spec.kafka.topicPrefix", 200),
    ("spec.kafka.config", 64),
    ("spec.kafka.retention", 32),
    ("spec.events.mapping.id", 16),
    ("spec.events.mapping.id[]", 250),
    ("spec.events.mapping.type", 16),
    ("spec.events.mapping.type[]", 250),
    ("spec.events.mapping.user", 16),
    ("spec.events.mapping.user[]", 250),
    ("spec.events.mapping.item", 16),
    ("spec.events.mapping.item[]", 250),
    ("spec.events.mapping.time", 16),
    ("spec.events.mapping.time[]", 250),
    ("spec.events.types", 1000),
    ("spec.events.types[]", 250),
    ("spec.events.key", 250),
    ("spec.events.maxLateness", 32),
    ("spec.events.maxClockSkew", 32),
    ("spec.events.maxAge", 32),
    ("spec.collector.auth.keys", 1000),
    ("spec.collector.auth.keys[].name", 40),
    ("spec.collector.cors.origins", 200),
    ("spec.collector.cors.origins[]", 260),
    ("spec.collector.trustedProxies", 64),
    ("spec.collector.trustedProxies[]", 50),
    ("spec.collector.context.countryHeader", 100),
    ("spec.collector.limits.headerTimeout", 32),
    ("spec.collector.limits.bodyTimeout", 32),
    ("spec.collector.limits.ackTimeout", 32),
    ("spec.metrics", 100),
    ("spec.metrics[].name", 40),
    ("spec.metrics[].window", 32),
    ("spec.metrics[].emit", 32),
    ("spec.metrics[].key", 8),
    ("spec.metrics[].key[]", 250),
    ("spec.metrics[].aggregate.field", 250),
    ("spec.metrics[].events.types", 200),
    ("spec.metrics[].events.types[]", 250),
    ("spec.metrics[].events.where", 16),
    ("spec.metrics[].events.where[].field", 250),
    ("spec.metrics[].events.where[].in", 200),
    ("spec.metrics[].events.where[].in[]", 250),
    ("spec.metrics[].events.where[].notIn", 200),
    ("spec.metrics[].events.where[].notIn[]", 250),
    ("spec.detectors", 100),
    ("spec.sinks", 20),
    ("spec.sinks[].name", 40),
    ("spec.sinks[].postgres.schema", 63),
    ("spec.sinks[].webhook.url", 2000),
    ("spec.sinks[].webhook.timeout", 32),
    ("spec.api.store", 40),
];

/// Where a stage is described; the paths of the next two tables continue from there.
const STAGES: &[&str] = &["spec.collector.stage", "spec.detection", "spec.sinks[].stage", "spec.api.stage"];
const STAGE_RULES: Rules = &[
    (".scaling", SCALING, SCALING_MESSAGE),
    (
        ".scaling",
        "!has(self.floors) || self.floors.all(floor, floor.min <= self.max)",
        "`min` of a floor must not be more than `max`: lower it or raise `max`",
    ),
    (".scaling.catchUp", between!("5s", "24h", "^(0+d.|0*1d$)"), "must be from 5s to 1d"),
    (".scaling.stabilisation", between!("0s", "24h", "^(0+d|0*1d$)"), "must be from 0s to 1d"),
    (".scaling.floors[].for", between!("1m", "24h", "^(0+d.|0*1d$)"), "must be from 1m to 1d"),
    (
        ".scaling.floors[].schedule",
        SCHEDULE,
        "is not a schedule: write minute (0-59), hour (0-23), day of month (1-31), month (1-12) and day of week (0-7), e.g. `45 7 * * mon-fri`",
    ),
    (".scaling.floors[].timeZone", ZONE, ZONE_MESSAGE),
    (".resources", WITHIN, WITHIN_MESSAGE),
    (".resources.requests", QUANTITY, QUANTITY_MESSAGE),
    (".resources.requests", RESOURCE, RESOURCE_MESSAGE),
    (".resources.limits", QUANTITY, QUANTITY_MESSAGE),
    (".resources.limits", RESOURCE, RESOURCE_MESSAGE),
];
const STAGE_BOUNDS: Bounds = &[
    (".scaling.catchUp", 32),
    (".scaling.stabilisation", 32),
    (".scaling.floors", 16),
    (".scaling.floors[].for", 32),
    (".scaling.floors[].schedule", 120),
    (".scaling.floors[].timeZone", 64),
    (".resources.requests", 16),
    (".resources.requests{}", 40),
    (".resources.limits", 16),
    (".resources.limits{}", 40),
];

/// Where an Ingress is described; the paths of the next two tables continue from there.
const INGRESSES: &[&str] = &["spec.collector.ingress", "spec.api.ingress"];
const INGRESS_RULES: Rules = &[
    (
        ".host",
        "self.matches('^([*][.])?[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*$')",
        "is not a host: write lower-case letters, digits, `-` and dots, e.g. `events.shop.example`",
    ),
    (".path", "self.startsWith('/')", "is not a path: begin it with `/`"),
];
const INGRESS_BOUNDS: Bounds = &[(".host", 253), (".path", 260), (".annotations", 50)];

/// Places, and the rules and bounds there.
const TABLES: [(&[&str], Rules, Bounds); 4] = [
    (&[""], RULES, BOUNDS),
    (detectors::PLACES, detectors::RULES, detectors::BOUNDS),
    (INGRESSES, INGRESS_RULES, INGRESS_BOUNDS),
    (STAGES, STAGE_RULES, STAGE_BOUNDS),
];

/// A sink has exactly one kind. Kinds are the fields of the schema except these, so that one that is added cannot be forgotten here.
pub(super) const SINK_FIELDS: &[&str] = &["name", "stage"];
/// Kinds that a rule above refuses: nobody is told to choose one.
pub(super) const REFUSED_SINKS: &[&str] = &["sqlite", "druid"];

/// Lists whose items go by a name: names are unique, and two people may each apply their own items.
pub(super) const MAPS: &[(&str, &str)] = &[
    ("spec.collector.auth.keys", "name"),
    ("spec.metrics", "name"),
    ("spec.detectors", "name"),
    ("spec.sinks", "name"),
    ("status.conditions", "type"),
    ("status.stages", "name"),
    ("status.topics", "name"),
];
