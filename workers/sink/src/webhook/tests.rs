//! Where messages are posted to.

use super::*;
use rstest::rstest;

#[rstest]
#[case("http://am:9093", "http://am:9093/api/v2/alerts")]
#[case("http://am:9093/", "http://am:9093/api/v2/alerts")]
#[case("http://am:9093/prefix/", "http://am:9093/prefix/api/v2/alerts")]
#[case("http://am:9093/api/v2/alerts", "http://am:9093/api/v2/alerts")]
fn alertmanagers_path_may_be_left_out(#[case] written: &str, #[case] posted: &str) {
    let url = alerts_path(Url::parse(written).unwrap(), WebhookFormat::Alertmanager);
    assert_eq!(url.as_str(), posted);
}
