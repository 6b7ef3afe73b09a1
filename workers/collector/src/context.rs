//! What the collector adds to the events of a request: the country, the class of the user agent, the address. It is found once per
//! request, not per event.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};
use herd_spec::pipeline::ContextSpec;
use herd_spec::plan::{AddressRange, CollectorPlan};
use isbot::Bots;
use woothee::parser::Parser;

use crate::intake::{Context, Found};

/// Bytes of a user agent that are looked at. Longer ones are not from browsers, and would cost time.
const AGENT_BYTES: usize = 1024;

/// Finds the context of requests.
#[derive(Debug)]
pub(crate) struct ContextReader {
    spec: ContextSpec,
    trusted: Vec<AddressRange>,
    bots: Option<Bots>,
}

/// Class of a user agent.
#[derive(Debug, Default, PartialEq, Eq)]
struct AgentClass {
    browser: Option<String>,
    os: Option<String>,
    device: Option<&'static str>,
    bot: bool,
}

impl ContextReader {
    pub(crate) fn new(plan: &CollectorPlan) -> Self {
        Self {
            spec: plan.context.clone(),
            trusted: plan.trusted_proxies.clone(),
            bots: plan.context.user_agent.then(Bots::default),
        }
    }

    /// The context of a request from `client`, which came over the connection of `peer`.
    pub(crate) fn read(&self, headers: &HeaderMap, peer: IpAddr, client: IpAddr) -> Context {
        let mut context = Context::default();
        let mut add = |name, found: Option<Found>| context.0.push((name, found));
        if let Some(header) = &self.spec.country_header {
            let peer = peer.to_canonical();
            let is_trusted = self.trusted.iter().any(|range| range.contains(&peer));
            add("country", is_trusted.then(|| country(headers, header)).flatten().map(Found::Text));
        }
        if let Some(bots) = &self.bots {
            let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
            let class = agent.map(|agent| AgentClass::of(agent, bots)).unwrap_or_default();
            add("browser", class.browser.map(Found::Text));
            add("os", class.os.map(Found::Text));
            add("device", class.device.map(|device| Found::Text(device.to_owned())));
            add("bot", class.bot.then_some(Found::True));
        }
        if self.spec.ip_address {
            add("ip", Some(Found::Text(client.to_string())));
        }
        context
    }

    /// The context of an event that is sent again by somebody else than its client: nothing is known.
    pub(crate) fn unknown(&self) -> Context {
        let country = self.spec.country_header.is_some().then_some(["country"].as_slice());
        let agent = self.spec.user_agent.then_some(["browser", "os", "device", "bot"].as_slice());
        let address = self.spec.ip_address.then_some(["ip"].as_slice());
        let names = [country, agent, address].into_iter().flatten().flatten();
        Context(names.map(|name| (*name, None)).collect())
    }
}

/// The country in a header that occurs once. `XX` and `ZZ` mean that the proxy does not know it; other words, e.g. `T1` for Tor, are no
/// countries.
fn country(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).into_iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let code = value.to_str().ok()?.trim().to_ascii_uppercase();
    let is_country = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    (is_country && code != "XX" && code != "ZZ").then_some(code)
}

impl AgentClass {
    fn of(agent: &str, bots: &Bots) -> Self {
        let agent = &agent[..agent.floor_char_boundary(AGENT_BYTES)];
        let parsed = Parser::new().parse(agent);
        let is_crawler = parsed.as_ref().is_some_and(|parsed| parsed.category == "crawler");
        if is_crawler || bots.is_bot(agent) {
            return Self { bot: true, ..Self::default() };
        }
        let Some(parsed) = parsed else { return Self::default() };
        let known = |value: &str| Some(value.to_owned()).filter(|value| value != "UNKNOWN");
        let device = match parsed.category {
            // Google: Chrome on a phone says `Mobile`, on a tablet it does not.
            "smartphone" if parsed.os == "iPad" || (parsed.os == "Android" && !agent.contains("Mobile")) => {
                Some("tablet")
            }
            "smartphone" | "mobilephone" => Some("mobile"),
            "pc" => Some("desktop"),
            "appliance" => Some("appliance"),
            _ => None,
        };
        // Versions would make many values of few systems.
        let os = match parsed.os {
            os if os.starts_with("Windows") => "Windows",
            "Mac OSX" => "macOS",
            "iPhone" | "iPad" | "iPod" => "iOS",
            os => os,
        };
        Self { browser: known(parsed.name), os: known(os), device, bot: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn reader(spec: ContextSpec) -> ContextReader {
        let bots = spec.user_agent.then(Bots::default);
        ContextReader { spec, trusted: vec!["10.0.0.0/8".parse().unwrap()], bots }
    }

    #[rstest]
    #[case::chrome(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
        "Chrome",
        "Windows",
        "desktop"
    )]
    #[case::edge(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
        "Edge",
        "Windows",
        "desktop"
    )]
    #[case::safari(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Safari/605.1.15",
        "Safari",
        "macOS",
        "desktop"
    )]
    #[case::firefox(
        "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
        "Firefox",
        "Linux",
        "desktop"
    )]
    #[case::iphone(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/141.0.0.0 Mobile/15E148 Safari/604.1",
        "Chrome",
        "iOS",
        "mobile"
    )]
    #[case::ipad(
        "Mozilla/5.0 (iPad; CPU OS 12_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1 Mobile/15E148 Safari/604.1",
        "Safari",
        "iOS",
        "tablet"
    )]
    #[case::android(
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
        "Chrome",
        "Android",
        "mobile"
    )]
    #[case::android_tablet(
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
        "Chrome",
        "Android",
        "tablet"
    )]
    #[case::a_phone_named_cubot(
        "Mozilla/5.0 (Linux; Android 9; CUBOT_X19) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/88.0.4324.152 Mobile Safari/537.36",
        "Chrome",
        "Android",
        "mobile"
    )]
    fn browsers_have_a_class(
        #[case] agent: &str,
        #[case] browser: &str,
        #[case] os: &str,
        #[case] device: &str,
    ) {
        let class = AgentClass::of(agent, &Bots::default());
        let found = (class.browser.as_deref(), class.os.as_deref(), class.device, class.bot);
        assert_eq!(found, (Some(browser), Some(os), Some(device), false));
    }

    #[rstest]
    #[case::googlebot(
        "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    )]
    #[case::of_a_language_model(
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"
    )]
    #[case::bytespider(
        "Mozilla/5.0 (Linux; Android 5.0) AppleWebKit/537.36 (KHTML, like Gecko) Mobile Safari/537.36 (compatible; Bytespider; spider-feedback@bytedance.com)"
    )]
    #[case::headless(
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/141.0.0.0 Safari/537.36"
    )]
    #[case::library("python-requests/2.32.0")]
    #[case::curl("curl/8.5.0")]
    fn bots_are_flagged_and_have_no_class(#[case] agent: &str) {
        let expected = AgentClass { bot: true, ..AgentClass::default() };
        assert_eq!(AgentClass::of(agent, &Bots::default()), expected);
    }

    #[rstest]
    #[case::empty("")]
    #[case::a_program("node")]
    #[case::long(&"é".repeat(40_000))]
    fn an_unknown_agent_has_no_class(#[case] agent: &str) {
        assert_eq!(AgentClass::of(agent, &Bots::default()), AgentClass::default());
    }

    #[rstest]
    #[case::known("10.0.0.7", &["DE"], Some("DE"))]
    #[case::in_lower_case("10.0.0.7", &["de"], Some("DE"))]
    #[case::a_mapped_peer("::ffff:10.0.0.7", &["DE"], Some("DE"))]
    #[case::a_peer_that_is_not_trusted("203.0.113.9", &["DE"], None)]
    #[case::absent("10.0.0.7", &[], None)]
    #[case::unknown_to_the_proxy("10.0.0.7", &["XX"], None)]
    #[case::tor("10.0.0.7", &["T1"], None)]
    #[case::a_sentence("10.0.0.7", &["Germany"], None)]
    #[case::the_client_wrote_one_as_well("10.0.0.7", &["FR", "DE"], None)]
    fn the_country_is_what_a_trusted_proxy_says(
        #[case] peer: &str,
        #[case] values: &[&str],
        #[case] expected: Option<&str>,
    ) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("cf-ipcountry", value.parse().unwrap());
        }
        let reader =
            reader(ContextSpec { country_header: Some("CF-IPCountry".into()), ..ContextSpec::default() });
        let peer = peer.parse().unwrap();
        let expected = expected.map(|country| Found::Text(country.into()));
        assert_eq!(reader.read(&headers, peer, peer).0, [("country", expected)]);
    }

    #[test]
    fn what_is_sent_again_has_no_value_of_any_name() {
        let spec = ContextSpec { country_header: Some("c".into()), user_agent: true, ip_address: true };
        let reader = reader(spec);
        let here = IpAddr::from([10, 0, 0, 7]);
        let names = |context: Context| context.0.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let unknown = reader.unknown();
        assert!(unknown.0.iter().all(|(_, found)| found.is_none()));
        assert_eq!(names(unknown), names(reader.read(&HeaderMap::new(), here, here)));
    }

    #[test]
    fn nothing_is_read_by_default() {
        let reader = reader(ContextSpec::default());
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, "curl/8.5.0".parse().unwrap());
        let here = IpAddr::from([10, 0, 0, 7]);
        assert_eq!(reader.read(&headers, here, here), Context::default());
        assert_eq!(reader.unknown(), Context::default());
    }
}
