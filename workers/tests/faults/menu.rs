//! The menu: every fault by name. Each is a function of the scene that makes it happen, lets it last, asserts what a person sees
//! meanwhile, heals it, and says what was done.

mod brokers;
mod clocks;
mod inputs;
mod members;
mod networks;
mod postgres;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::scene::Scene;

/// A fault.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// How long it lasts in the long form.
    pub(crate) long: Duration,
    /// In the short form and in endurance runs; none: left out there.
    pub(crate) short: Option<Duration>,
    /// Share of the traffic that is of one item.
    pub(crate) hot: f64,
    pub(crate) happen: fn(&Scene) -> Happening<'_>,
}

/// What was done, once it is healed.
pub(crate) type Happening<'a> = Pin<Box<dyn Future<Output = String> + 'a>>;

const fn fault(
    name: &'static str,
    long: u64,
    short: Option<u64>,
    happen: fn(&Scene) -> Happening<'_>,
) -> Fault {
    let short = match short {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => None,
    };
    Fault { name, long: Duration::from_secs(long), short, hot: 0.0, happen }
}

/// All of them, in the order of the issue.
pub(crate) const MENU: &[Fault] = &[
    fault("stages-kill", 60, Some(6), |scene| Box::pin(members::end_at_random(scene))),
    fault("scale-1-6-2", 60, None, |scene| Box::pin(members::scale(scene))),
    fault("rebalance-storm", 60, Some(8), |scene| Box::pin(members::storm(scene))),
    fault("broker-kill", 30, Some(6), |scene| Box::pin(brokers::killed(scene))),
    fault("broker-stop", 60, None, |scene| Box::pin(brokers::stopped(scene))),
    fault("brokers-down", 30, None, |scene| Box::pin(brokers::all_down(scene))),
    fault("postgres-kill", 10, Some(3), |scene| Box::pin(postgres::killed_in_commit(scene))),
    fault("postgres-stop", 60, None, |scene| Box::pin(postgres::stopped(scene))),
    fault("disk-full", 30, Some(4), |scene| Box::pin(postgres::disk_full(scene))),
    fault("cut-to-broker", 60, None, |scene| Box::pin(networks::cut_to_broker(scene))),
    fault("cut-from-broker", 60, None, |scene| Box::pin(networks::cut_from_broker(scene))),
    fault("cut-both", 60, Some(8), |scene| Box::pin(networks::cut_both(scene))),
    fault("clock-collector-ahead", 30, None, |scene| Box::pin(clocks::collector_ahead(scene))),
    fault("clock-collector-far-ahead", 30, None, |scene| Box::pin(clocks::collector_far_ahead(scene))),
    fault("clock-collector-behind", 30, None, |scene| Box::pin(clocks::collector_behind(scene))),
    fault("clock-detector-ahead", 30, None, |scene| Box::pin(clocks::detector_ahead(scene))),
    fault("clock-detector-behind", 30, None, |scene| Box::pin(clocks::detector_behind(scene))),
    fault("clock-sink-ahead", 30, None, |scene| Box::pin(clocks::sink_ahead(scene))),
    fault("clock-sink-behind", 30, None, |scene| Box::pin(clocks::sink_behind(scene))),
    fault("poison", 10, Some(2), |scene| Box::pin(inputs::poison(scene))),
    Fault { hot: 0.9, ..fault("hot-item", 60, None, |scene| Box::pin(inputs::hot_item(scene))) },
    fault("replay", 30, Some(2), |scene| Box::pin(inputs::replay(scene))),
    fault("slow-sink", 60, None, |scene| Box::pin(postgres::slow(scene))),
];

/// The faults of these names, separated by commas, or `all`; or the one that there is not.
pub(crate) fn all_of(names: &str) -> Result<Vec<&'static Fault>, String> {
    if names == "all" {
        return Ok(MENU.iter().collect());
    }
    names.split(',').map(|name| find(name).ok_or_else(|| name.to_owned())).collect()
}

/// The fault of that name.
pub(crate) fn find(name: &str) -> Option<&'static Fault> {
    MENU.iter().find(|fault| fault.name == name)
}
