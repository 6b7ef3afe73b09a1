//! CPU time of this process, by which collectors are scaled.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Unit;

/// `/proc` counts in hundredths of a second (`USER_HZ`) on all Linux platforms.
const TICKS_PER_SECOND: f64 = 100.0;

/// Collects `process_cpu_seconds_total` at each scrape, on systems with `/proc`.
#[derive(Debug)]
pub(crate) struct CpuCollector;

impl Collector for CpuCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(seconds) = seconds() else { return Ok(()) };
        let counter = ConstCounter::new(seconds);
        let metric = encoder.encode_descriptor(
            "process_cpu",
            "CPU time used by the process",
            Some(&Unit::Seconds),
            counter.metric_type(),
        )?;
        counter.encode(metric)
    }
}

/// Seconds of CPU this process has used; `None` on systems without `/proc`.
fn seconds() -> Option<f64> {
    parse(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// User and system time of a line of `/proc/PID/stat`: its 14th and 15th fields, see `proc(5)`.
fn parse(stat: &str) -> Option<f64> {
    // The second field is the name of the program in parentheses, which may contain anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_user_and_system_time() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 100 1 1";
        assert_eq!(parse(stat), Some(3.0));
    }

    #[test]
    fn returns_none_for_an_invalid_line() {
        assert_eq!(parse("7 (a) S 1"), None);
    }

    #[test]
    fn exposes_the_cpu_time_as_a_counter_in_seconds() {
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(CpuCollector));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains("# TYPE process_cpu_seconds counter\n# UNIT process_cpu_seconds seconds\n"),
            "{text}"
        );
        assert!(text.contains("\nprocess_cpu_seconds_total "), "{text}");
    }
}
