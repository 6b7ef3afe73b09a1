//! What a webhook sends: the same alert in the words of each receiver. Pure.

use herd_spec::pipeline::WebhookFormat;
use herd_spec::units::{EventTime, WallTime};
use herd_spec::wire::{Alert, AlertState, Severity};
use serde_json::{Value, json};

/// How long Alertmanager takes an alert for firing when Herd says nothing more: it says so once, and once when it ends.
const FIRING_FOR: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// The body that tells of an alert at its present state.
pub(crate) fn body(format: WebhookFormat, alert: &Alert, now: WallTime) -> Vec<u8> {
    match format {
        WebhookFormat::Json => {
            let mut body = Vec::new();
            alert.write(&mut body);
            body
        }
        WebhookFormat::Slack => slack(alert).to_string().into_bytes(),
        WebhookFormat::Alertmanager => alertmanager(alert, now).to_string().into_bytes(),
    }
}

pub(crate) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn slack(alert: &Alert) -> Value {
    // What Slack asks to be escaped, and no more: https://api.slack.com/reference/surfaces/formatting#escaping
    let plain = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let (sign, word) = match (alert.state, alert.severity) {
        (AlertState::Resolved, _) => (":white_check_mark:", "Resolved"),
        (AlertState::Withdrawn, _) => (":heavy_minus_sign:", "Part of an earlier alert"),
        (_, Severity::Critical) => (":rotating_light:", "Critical"),
        (_, Severity::Warning) => (":warning:", "Warning"),
        (_, Severity::Info) => (":information_source:", "Info"),
    };
    let title = format!("{word}: {} on {}", plain(&alert.detector), plain(&alert.key));
    json!({
        "text": format!("{sign} {title}: {}", plain(&alert.summary)),
        "blocks": [
            { "type": "section", "text": { "type": "mrkdwn", "text": format!("{sign} *{title}*\n{}", plain(&alert.summary)) } },
            { "type": "context", "elements": [
                { "type": "mrkdwn", "text": format!(
                    "pipeline {} · metric {} · window from {}",
                    plain(&alert.pipeline), plain(&alert.metric), alert.start.rfc3339()
                ) },
            ] },
        ],
    })
}

/// One postable alert; its labels are its identity, so all states of one (detector, key) share them.
fn alertmanager(alert: &Alert, now: WallTime) -> Value {
    let ends = match alert.state {
        AlertState::Early | AlertState::Firing => EventTime(now.plus(FIRING_FOR).0),
        // Not before it starts: Alertmanager refuses that.
        AlertState::Resolved | AlertState::Withdrawn => {
            alert.resolved.unwrap_or(alert.start).max(alert.start)
        }
    };
    json!([{
        "labels": {
            "alertname": alert.detector,
            "pipeline": alert.pipeline,
            "metric": alert.metric,
            "key": alert.key,
            "severity": severity(alert.severity),
        },
        "annotations": {
            "summary": alert.summary,
            "value": alert.value.to_string(),
            "expected": alert.expected.to_string(),
            "score": alert.score.to_string(),
            "alert_id": alert.id.0,
        },
        "startsAt": alert.start.rfc3339(),
        "endsAt": ends.rfc3339(),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::tests::alert;

    fn text(format: WebhookFormat, alert: &Alert) -> String {
        let body = body(format, alert, WallTime(1_700_000_100_000));
        let value: Value = serde_json::from_slice(&body).unwrap();
        serde_json::to_string_pretty(&value).unwrap().replace(&alert.id.0, "ID")
    }

    #[test]
    fn json_format_is_the_alert_record() {
        let alert = alert("mug", AlertState::Firing);
        let body = body(WebhookFormat::Json, &alert, WallTime(0));
        assert_eq!(Alert::parse(&body).unwrap(), alert);
    }

    #[test]
    fn slack_format_is_a_message_with_markup_escaped() {
        let mut alert = alert("<!channel> & co", AlertState::Early);
        alert.severity = Severity::Critical;
        insta::assert_snapshot!(text(WebhookFormat::Slack, &alert), @r#"
        {
          "text": ":rotating_light: Critical: rush on &lt;!channel&gt; &amp; co: &lt;!channel&gt; &amp; co: 412 views in 10 s, expected about 35 ± 6, 63 times the usual spread",
          "blocks": [
            {
              "type": "section",
              "text": {
                "type": "mrkdwn",
                "text": ":rotating_light: *Critical: rush on &lt;!channel&gt; &amp; co*\n&lt;!channel&gt; &amp; co: 412 views in 10 s, expected about 35 ± 6, 63 times the usual spread"
              }
            },
            {
              "type": "context",
              "elements": [
                {
                  "type": "mrkdwn",
                  "text": "pipeline shop · metric views · window from 2023-11-14T22:13:20.000Z"
                }
              ]
            }
          ]
        }
        "#);
    }

    #[test]
    fn alertmanager_format_has_stable_labels_and_an_end_time() {
        insta::assert_snapshot!(text(WebhookFormat::Alertmanager, &alert("mug", AlertState::Firing)), @r#"
        [
          {
            "labels": {
              "alertname": "rush",
              "pipeline": "shop",
              "metric": "views",
              "key": "mug",
              "severity": "warning"
            },
            "annotations": {
              "summary": "mug: 412 views in 10 s, expected about 35 ± 6, 63 times the usual spread",
              "value": "412",
              "expected": "35",
              "score": "62.83",
              "alert_id": "ID"
            },
            "startsAt": "2023-11-14T22:13:20.000Z",
            "endsAt": "2023-11-15T22:15:00.000Z"
          }
        ]
        "#);
        let resolved = alertmanager(&alert("mug", AlertState::Resolved), WallTime(0));
        let firing = alertmanager(&alert("mug", AlertState::Firing), WallTime(0));
        assert_eq!(resolved[0]["labels"], firing[0]["labels"]);
        assert_eq!(resolved[0]["endsAt"], "2023-11-14T22:13:40.000Z");
    }
}
