//! What a webhook sends: the same alert in the words of each receiver. Pure.

use herd_spec::pipeline::WebhookFormat;
use herd_spec::units::{EventTime, WallTime};
use herd_spec::wire::{Alert, AlertState, Severity};
use serde_json::{Value, json};

use super::summary::summary_body;
use crate::alerts::Message;

/// How long Alertmanager takes an alert for firing when Herd says nothing more: it says so once, and once when it ends.
const FIRING_FOR: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// The body of the request.
pub(super) fn body(format: WebhookFormat, message: Message<'_>, now: WallTime) -> Vec<u8> {
    match message {
        Message::Alert(alert) => alert_body(format, alert, now),
        Message::Summary(summary) => summary_body(format, summary, now).to_string().into_bytes(),
    }
}

/// The body that tells of an alert at its present state.
fn alert_body(format: WebhookFormat, alert: &Alert, now: WallTime) -> Vec<u8> {
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

/// What the alert says, and then why, as far as the events tell.
pub(super) fn sentences(alert: &Alert) -> String {
    match &alert.explanation {
        None => alert.summary.clone(),
        Some(why) => format!("{}. {}", alert.summary.trim_end_matches('.'), why.summary),
    }
}

/// What Slack asks to be escaped, and no more: <https://api.slack.com/reference/surfaces/formatting#escaping>.
pub(super) fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn slack(alert: &Alert) -> Value {
    let (sign, word) = match (alert.state, alert.severity) {
        (AlertState::Resolved, _) => (":white_check_mark:", "Resolved"),
        (AlertState::Withdrawn, _) => (":heavy_minus_sign:", "Withdrawn"),
        (_, Severity::Critical) => (":rotating_light:", "Critical"),
        (_, Severity::Warning) => (":warning:", "Warning"),
        (_, Severity::Info) => (":information_source:", "Info"),
    };
    let title = format!("{word}: {} on {}", plain(&alert.detector), plain(&alert.key));
    let period = match ends(alert).filter(|_| alert.episode.is_some()) {
        Some(end) => format!("{} to {}", begins(alert).rfc3339(), end.rfc3339()),
        None => format!("from {}", begins(alert).rfc3339()),
    };
    let words = plain(&sentences(alert));
    json!({
        "text": format!("{sign} {title}: {words}"),
        "blocks": [
            { "type": "section", "text": { "type": "mrkdwn", "text": format!("{sign} *{title}*\n{words}") } },
            { "type": "context", "elements": [
                { "type": "mrkdwn", "text": format!(
                    "pipeline {} · metric {} · {period}", plain(&alert.pipeline), plain(&alert.metric)
                ) },
            ] },
        ],
    })
}

/// When what the alert is about began.
fn begins(alert: &Alert) -> EventTime {
    alert.episode.as_ref().map_or(alert.start, |episode| episode.since)
}

/// When it ended; none while it lasts.
fn ends(alert: &Alert) -> Option<EventTime> {
    match alert.state {
        AlertState::Early | AlertState::Firing => None,
        AlertState::Resolved | AlertState::Withdrawn => {
            let until = alert.episode.as_ref().map_or(alert.start, |episode| episode.until);
            // Not before it starts: Alertmanager refuses that.
            Some(alert.resolved.unwrap_or(until).max(begins(alert)))
        }
    }
}

/// One postable alert; its labels are its identity, so all states of one (detector, key) share them.
pub(super) fn alertmanager(alert: &Alert, now: WallTime) -> Value {
    let ends = ends(alert).unwrap_or_else(|| EventTime(now.plus(FIRING_FOR).0));
    let mut annotations = json!({
        "summary": sentences(alert),
        "value": alert.value.to_string(),
        "expected": alert.expected.to_string(),
        "score": alert.score.to_string(),
        "alert_id": alert.id.0,
    });
    if let Some(episode) = &alert.episode {
        annotations["peak"] = episode.peak.to_string().into();
        annotations["excess"] = episode.excess.to_string().into();
    }
    json!([{
        "labels": {
            "alertname": alert.detector,
            "pipeline": alert.pipeline,
            "metric": alert.metric,
            "key": alert.key,
            "severity": severity(alert.severity),
        },
        "annotations": annotations,
        "startsAt": begins(alert).rfc3339(),
        "endsAt": ends.rfc3339(),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::tests::{alert, explanation};
    use herd_spec::wire::{Ending, Episode};
    use rstest::rstest;

    fn text(format: WebhookFormat, alert: &Alert) -> String {
        let body = alert_body(format, alert, WallTime(1_700_000_100_000));
        let value: Value = serde_json::from_slice(&body).unwrap();
        serde_json::to_string_pretty(&value).unwrap().replace(&alert.id.0, "ID")
    }

    #[test]
    fn json_format_is_the_alert_record() {
        let alert = alert("mug", AlertState::Firing);
        let body = alert_body(WebhookFormat::Json, &alert, WallTime(0));
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
                  "text": "pipeline shop · metric views · from 2023-11-14T22:13:20.000Z"
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

    #[test]
    fn an_explanation_follows_what_the_alert_says() {
        let mut alert = alert("mug", AlertState::Firing);
        alert.summary = "mug is going viral: 412 views in 10 s, 35 usual (12×).".into();
        let mut why = explanation(10);
        why.summary = "92 % of the excess via <t.co>; 380 people".into();
        alert.explanation = Some(why);
        let both = "mug is going viral: 412 views in 10 s, 35 usual (12×). 92 % of the excess via <t.co>; 380 people";
        assert_eq!(alertmanager(&alert, WallTime(0))[0]["annotations"]["summary"], both);
        let escaped = both.replace('<', "&lt;").replace('>', "&gt;");
        let slack = slack(&alert);
        assert_eq!(slack["text"], format!(":warning: Warning: rush on mug: {escaped}"));
        assert_eq!(
            slack["blocks"][0]["text"]["text"],
            format!(":warning: *Warning: rush on mug*\n{escaped}")
        );
        let json: Value =
            serde_json::from_slice(&alert_body(WebhookFormat::Json, &alert, WallTime(0))).unwrap();
        assert_eq!(json["explanation"]["summary"], "92 % of the excess via <t.co>; 380 people");
    }

    /// An alert whose episode began 20 s before its window, and was last brought up to date at 22:17:30.
    fn episode(state: AlertState) -> Alert {
        let mut alert = alert("mug", state);
        alert.summary =
            "mug: back to usual after 4 min 10 s, peak 96 views in 10 s, 5,120 more than usual".into();
        alert.resolved = None;
        alert.episode = Some(Episode {
            since: EventTime(1_699_999_980_000),
            until: EventTime(1_700_000_250_000),
            peak: 96.0,
            peak_start: EventTime(1_700_000_100_000),
            excess: 5120.0,
            ending: (state == AlertState::Resolved).then_some(Ending::Usual),
        });
        alert
    }

    #[test]
    fn an_episode_is_told_in_its_summary_with_its_beginning_and_end() {
        insta::assert_snapshot!(text(WebhookFormat::Slack, &episode(AlertState::Resolved)), @r#"
        {
          "text": ":white_check_mark: Resolved: rush on mug: mug: back to usual after 4 min 10 s, peak 96 views in 10 s, 5,120 more than usual",
          "blocks": [
            {
              "type": "section",
              "text": {
                "type": "mrkdwn",
                "text": ":white_check_mark: *Resolved: rush on mug*\nmug: back to usual after 4 min 10 s, peak 96 views in 10 s, 5,120 more than usual"
              }
            },
            {
              "type": "context",
              "elements": [
                {
                  "type": "mrkdwn",
                  "text": "pipeline shop · metric views · 2023-11-14T22:13:00.000Z to 2023-11-14T22:17:30.000Z"
                }
              ]
            }
          ]
        }
        "#);
        insta::assert_snapshot!(text(WebhookFormat::Alertmanager, &episode(AlertState::Resolved)), @r#"
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
              "summary": "mug: back to usual after 4 min 10 s, peak 96 views in 10 s, 5,120 more than usual",
              "value": "412",
              "expected": "35",
              "score": "62.83",
              "alert_id": "ID",
              "peak": "96",
              "excess": "5120"
            },
            "startsAt": "2023-11-14T22:13:00.000Z",
            "endsAt": "2023-11-14T22:17:30.000Z"
          }
        ]
        "#);
        let lasts = slack(&episode(AlertState::Firing));
        assert_eq!(
            lasts["blocks"][1]["elements"][0]["text"],
            "pipeline shop · metric views · from 2023-11-14T22:13:00.000Z"
        );
    }

    #[rstest]
    #[case::while_it_lasts(AlertState::Firing, None, "2023-11-15T22:15:00.000Z")]
    #[case::at_the_end_of_its_last_window(AlertState::Resolved, None, "2023-11-14T22:17:30.000Z")]
    #[case::at_the_first_usual_window(
        AlertState::Resolved,
        Some(1_700_000_280_000),
        "2023-11-14T22:18:00.000Z"
    )]
    #[case::withdrawn(AlertState::Withdrawn, None, "2023-11-14T22:17:30.000Z")]
    fn alertmanager_ends_an_episode(
        #[case] state: AlertState,
        #[case] resolved: Option<i64>,
        #[case] ends: &str,
    ) {
        let alert = Alert { resolved: resolved.map(EventTime), ..episode(state) };
        let posted = alertmanager(&alert, WallTime(1_700_000_100_000));
        assert_eq!(
            (&posted[0]["startsAt"], &posted[0]["endsAt"]),
            (&json!("2023-11-14T22:13:00.000Z"), &json!(ends))
        );
    }
}
