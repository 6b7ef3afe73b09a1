//! Brokers that die or stand still.

use crate::env::{BROKERS, Signal};
use crate::scene::Scene;

/// What clients log of a broker that is gone.
const GONE: &[&str] =
    &["Connection refused", "Disconnected", "BrokerTransportFailure", "AllBrokersDown", "timed out"];

/// One of three is killed: replication bridges it, and stages stay ready.
pub(crate) async fn killed(scene: &Scene) -> String {
    scene.env.signal_broker(2, Signal::Kill);
    scene.sees_one_log("detector", GONE).await;
    scene.hold().await;
    scene.env.start_broker(2).await;
    "broker 2 of 3: SIGKILL".into()
}

/// One of three stands still: it is there and says nothing. Others take its partitions over; what goes through shows in the lag.
pub(crate) async fn stopped(scene: &Scene) -> String {
    scene.env.signal_broker(3, Signal::Stop);
    let accepted = scene.load.accepted();
    scene.hold().await;
    let accepted = scene.load.accepted() - accepted;
    let due = scene.load.script.rate * scene.hold.as_secs();
    if accepted < due / 2 {
        scene.missed(format!(
            "two brokers are enough: only {accepted} of {due} events were accepted meanwhile"
        ));
    }
    scene.saw(format!("{accepted} of {due} events accepted meanwhile"));
    scene.env.signal_broker(3, Signal::Continue);
    format!("broker 3 of 3: SIGSTOP for {:?}", scene.hold)
}

/// All three at once.
pub(crate) async fn all_down(scene: &Scene) -> String {
    for broker in BROKERS {
        scene.env.signal_broker(broker, Signal::Kill);
    }
    for member in ["collector-0", "detector-0", "sink-0", "api-0"] {
        scene.sees_trouble(member, &["kafkaunreachable"]).await;
    }
    scene.hold().await;
    tokio::join!(scene.env.start_broker(1), scene.env.start_broker(2), scene.env.start_broker(3));
    "all three brokers: SIGKILL".into()
}
