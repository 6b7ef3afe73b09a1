//! Additions to the schema of a detector.

use super::{Bounds, FIELD, FIELD_MESSAGE, NAME, NAME_MESSAGE, Rules, ZONE, ZONE_MESSAGE};

const POSITIVE: &str = "self > 0.0 && self <= 1000.0";
const POSITIVE_MESSAGE: &str = "must be more than 0 and at most 1000";
const PROBABILITY: &str = "self > 0.0 && self <= 0.1";
const PROBABILITY_MESSAGE: &str = "must be more than 0 and at most 0.1, e.g. 1e-9";

const WARMUP: &str = "self >= 2 && self <= 1000";
const WARMUP_MESSAGE: &str = "`warmup` must be from 2 to 1000";
const WARMUP_WITHIN: &str = "self.warmup >= 2 && self.warmup <= self.history";
const WARMUP_WITHIN_MESSAGE: &str = "`warmup` must be from 2 to `history`";
const TIME_MESSAGE: &str = "is not a time of day: write `HH:MM`, e.g. `22:00`";

/// Where a detector is described; the paths of the next two tables continue from there.
pub(super) const PLACES: &[&str] = &["spec.detectors[]"];
pub(super) const RULES: Rules = &[
    (".name", NAME, NAME_MESSAGE),
    (
        ".algorithm",
        "[has(self.crowd), has(self.level), has(self.threshold), has(self.zscore), has(self.ewma), has(self.mad), has(self.poisson)].filter(set, set).size() == 1",
        "must have exactly one of `crowd`, `level`, `threshold`, `zscore`, `ewma`, `mad`, `poisson`, e.g. `crowd: {}`; or leave out `algorithm`",
    ),
    // The text of a budget is checked by its pattern, and its range by the operator: here its length cannot be bounded, because it may be
    // an integer, and taking apart a text of unknown length costs more than the API server allows.
    (
        ".alerts",
        "!has(self.budget) || !has(self.probability)",
        "`budget` and `probability` cannot be combined: remove one of them",
    ),
    (".alerts.probability", PROBABILITY, PROBABILITY_MESSAGE),
    (
        "",
        "!has(self.algorithm) || has(self.algorithm.crowd) || has(self.algorithm.level) || (!has(self.alerts.budget) && !has(self.alerts.probability))",
        "`budget` and `probability` of `alerts` are for `crowd` and `level`: set the bound of the algorithm, e.g. `algorithm.zscore.sigmas`, or remove `algorithm`",
    ),
    (
        "",
        "!has(self.direction) || !has(self.alerts.direction)",
        "`direction` is set twice: set it under `alerts` only",
    ),
    (
        "",
        "!has(self.minCount) || !has(self.alerts.minCount)",
        "`minCount` is set twice: set it under `alerts` only",
    ),
    (
        "",
        "!has(self.cooldown) || !has(self.alerts.cooldown)",
        "`cooldown` is set twice: set it under `alerts` only",
    ),
    (".explain[]", FIELD, FIELD_MESSAGE),
    (".alerts.quietHours[].from", "self.matches('^([01][0-9]|2[0-3]):[0-5][0-9]$')", TIME_MESSAGE),
    (".alerts.quietHours[].to", "self.matches('^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$')", TIME_MESSAGE),
    (
        ".alerts.quietHours[]",
        "self.from != self.to",
        "`to` is the same time as `from`: for whole days write `from: \"00:00\"` and `to: \"24:00\"`",
    ),
    (".alerts.quietHours[].timeZone", ZONE, ZONE_MESSAGE),
    (
        ".alerts.mute[].until",
        "self.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}')",
        "is not a time: write it in RFC 3339, e.g. `2026-12-01T08:00:00Z`",
    ),
    (".algorithm.threshold", "has(self.above) || has(self.below)", "must have `above`, `below` or both"),
    (
        ".algorithm.threshold",
        "!has(self.above) || !has(self.below) || self.below < self.above",
        "`below` must be less than `above`: swap them",
    ),
    (
        "",
        "!has(self.algorithm) || !has(self.algorithm.threshold) || ((!has(self.direction) || self.direction == 'up') && (!has(self.alerts.direction) || self.alerts.direction == 'up'))",
        "`threshold` takes its direction from `above` and `below`: remove `direction`",
    ),
    (".algorithm.zscore.sigmas", POSITIVE, POSITIVE_MESSAGE),
    (".algorithm.mad.deviations", POSITIVE, POSITIVE_MESSAGE),
    (".algorithm.ewma.sigmas", POSITIVE, POSITIVE_MESSAGE),
    (".algorithm.ewma.halfLife", POSITIVE, POSITIVE_MESSAGE),
    (".algorithm.poisson.halfLife", POSITIVE, POSITIVE_MESSAGE),
    (".algorithm.poisson.probability", PROBABILITY, PROBABILITY_MESSAGE),
    (".algorithm.zscore", WARMUP_WITHIN, WARMUP_WITHIN_MESSAGE),
    (".algorithm.mad", WARMUP_WITHIN, WARMUP_WITHIN_MESSAGE),
    (".algorithm.ewma.warmup", WARMUP, WARMUP_MESSAGE),
    (".algorithm.poisson.warmup", WARMUP, WARMUP_MESSAGE),
];
pub(super) const BOUNDS: Bounds = &[
    (".name", 40),
    (".metric", 40),
    (".alerts.quietHours", 16),
    (".alerts.quietHours[].from", 5),
    (".alerts.quietHours[].to", 5),
    (".alerts.quietHours[].timeZone", 64),
    (".alerts.quietHours[].days", 7),
    (".explain", 8),
    (".explain[]", 250),
    (".alerts.mute", 16),
    (".alerts.mute[].until", 64),
    (".alerts.mute[].keys", 100),
    (".alerts.mute[].keys[]", 250),
];
