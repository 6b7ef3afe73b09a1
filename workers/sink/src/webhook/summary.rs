//! The message about what was held back in quiet times, in the words of each receiver. Pure.

use herd_spec::pipeline::WebhookFormat;
use herd_spec::units::WallTime;
use herd_spec::wire::VERSION;
use serde_json::{Value, json};

use super::format::{alertmanager, plain, sentences};
use crate::alerts::Summary;

/// Alerts that a sentence names; the others are counted.
const NAMED: usize = 20;

/// `While quiet (22:00–07:00 Europe/Berlin): 3 alerts:`, and a line for each.
fn words(summary: &Summary) -> (String, Vec<String>) {
    let names: Vec<&str> = summary.names.iter().map(String::as_str).collect();
    let number = summary.alerts.len();
    let alerts = if number == 1 { "alert" } else { "alerts" };
    let title = format!("While quiet ({}): {number} {alerts}", names.join("; "));
    let mut lines: Vec<String> = summary.alerts.iter().take(NAMED).map(sentences).collect();
    if number > NAMED {
        lines.push(format!("and {} more", number - NAMED));
    }
    (title, lines)
}

/// The body that tells of what was held back.
pub(super) fn summary_body(format: WebhookFormat, summary: &Summary, now: WallTime) -> Value {
    let (title, lines) = words(summary);
    match format {
        WebhookFormat::Json => json!({
            "v": VERSION,
            "summary": format!("{title}: {}", lines.join("; ")),
            "quiet_until": summary.until,
            "alerts": summary.alerts,
        }),
        WebhookFormat::Slack => {
            let listed: Vec<String> = lines.iter().map(|line| format!("• {}", plain(line))).collect();
            json!({ "text": format!(":crescent_moon: *{}*\n{}", plain(&title), listed.join("\n")) })
        }
        // Alertmanager has no messages, but alerts that go on or are over: all of them in one request.
        WebhookFormat::Alertmanager => {
            let alerts = summary.alerts.iter().map(|alert| alertmanager(alert, now));
            Value::Array(alerts.filter_map(|one| one.as_array().cloned()).flatten().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::Message;
    use crate::alerts::tests::{alert, explanation};
    use crate::webhook::format::body;
    use herd_spec::wire::Alert;
    use herd_spec::wire::AlertState::{Firing, Resolved};

    fn summary(alerts: Vec<Alert>) -> Summary {
        let names = ["22:00–07:00 Europe/Berlin".to_owned()].into();
        Summary { names, until: WallTime(1_700_031_600_000), alerts }
    }

    fn value(format: WebhookFormat, summary: &Summary) -> Value {
        serde_json::from_slice(&body(format, Message::Summary(summary), WallTime(1_700_031_600_000))).unwrap()
    }

    #[test]
    fn says_all_in_one_message() {
        let explained = Alert { explanation: Some(explanation(9)), ..alert("<mug>", Firing) };
        let summary = summary(vec![explained.clone(), alert("pot", Resolved)]);
        insta::assert_snapshot!(
            value(WebhookFormat::Slack, &summary)["text"].as_str().unwrap(),
            @"
        :crescent_moon: *While quiet (22:00–07:00 Europe/Berlin): 2 alerts*
        • &lt;mug&gt;: 412 views in 10 s, expected about 35 ± 6, 63 times the usual spread. 92 % of the excess from country BR, 81 % via referrer t.co; 380 people
        • pot: 412 views in 10 s, expected about 35 ± 6, 63 times the usual spread
        "
        );
        let json = value(WebhookFormat::Json, &summary);
        assert!(
            json["summary"]
                .as_str()
                .unwrap()
                .starts_with("While quiet (22:00–07:00 Europe/Berlin): 2 alerts: <mug>: 412")
        );
        assert_eq!(serde_json::from_value::<Vec<Alert>>(json["alerts"].clone()).unwrap(), summary.alerts);
        let alertmanager = value(WebhookFormat::Alertmanager, &summary);
        let keys: Vec<&Value> =
            alertmanager.as_array().unwrap().iter().map(|one| &one["labels"]["key"]).collect();
        assert_eq!(keys, ["<mug>", "pot"]);
        let id = Message::Summary(&summary).id();
        assert_eq!(id, format!("{}-quiet-1700031600000", explained.id));
    }

    #[test]
    fn names_twenty_and_counts_the_others() {
        let one = summary(vec![alert("a", Firing)]);
        assert_eq!(words(&one).0, "While quiet (22:00–07:00 Europe/Berlin): 1 alert");
        let many = summary((0..23).map(|n| alert(&n.to_string(), Firing)).collect());
        let (title, lines) = words(&many);
        assert!(title.ends_with(": 23 alerts"));
        assert_eq!((lines.len(), lines[20].as_str()), (21, "and 3 more"));
    }
}
