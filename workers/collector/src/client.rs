//! The address of a client behind reverse proxies.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header};
use herd_spec::plan::AddressRange;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Maximum number of hops that are examined.
const MAX_HOPS: usize = 64;

/// The address of the client. A peer that is not `trusted` is the client itself, whatever its headers say. A trusted proxy appends
/// the address of its client to `X-Forwarded-For` or `Forwarded` (RFC 7239): read from the right, the first address that is not a
/// trusted proxy is the client. Addresses further to the left may be forged.
///
/// A proxy writes one of the two headers and passes the other one on unchanged. If the two name different clients, both are ignored
/// and the address of the proxy is used.
pub(crate) fn address(peer: IpAddr, headers: &HeaderMap, trusted: &[AddressRange]) -> IpAddr {
    let peer = peer.to_canonical();
    let is_trusted = |address: &IpAddr| trusted.iter().any(|range| range.contains(address));
    if !is_trusted(&peer) {
        return peer;
    }
    let values = |name| headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    // Elements are split at commas even within quotes: an unclosed quote of a client must not hide the element added by the
    // proxy.
    let listed: Vec<_> = values(X_FORWARDED_FOR).flat_map(|value| value.split(',')).map(plain).collect();
    let forwarded: Vec<_> =
        values(header::FORWARDED).flat_map(|value| value.split(',')).map(element).collect();
    let client = |hops: &[Option<IpAddr>]| {
        let mut nearest = peer;
        for hop in hops.iter().rev().take(MAX_HOPS) {
            // Hops before an unnamed one (`unknown`, `_hidden`) cannot be trusted.
            let Some(address) = hop else { return nearest };
            nearest = *address;
            if !is_trusted(address) {
                break;
            }
        }
        nearest
    };
    match (client(&listed), client(&forwarded)) {
        (found, _) if forwarded.is_empty() => found,
        (_, found) if listed.is_empty() => found,
        (one, other) if one == other => one,
        _ => peer,
    }
}

/// An address in `X-Forwarded-For`, with or without a port.
fn plain(written: &str) -> Option<IpAddr> {
    let written = written.trim();
    let bare = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(written);
    let address = bare.parse().ok().or_else(|| written.parse().ok().map(|socket: SocketAddr| socket.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// The address of `for=` in an element of `Forwarded`.
fn element(written: &str) -> Option<IpAddr> {
    let mut pairs = written.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    plain(node.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const PROXY: &str = "10.0.0.7";

    #[rstest]
    #[case::no_header(PROXY, &[], PROXY)]
    #[case::one_hop(PROXY, &[("x-forwarded-for", "203.0.113.9")], "203.0.113.9")]
    #[case::over_trusted_proxies(PROXY, &[("x-forwarded-for", "203.0.113.9, 10.1.1.1, fd00::5")], "203.0.113.9")]
    #[case::what_the_client_wrote_is_left_of_it(PROXY, &[("x-forwarded-for", "198.51.100.1, 203.0.113.9")], "203.0.113.9")]
    #[case::a_trusted_address_that_the_client_wrote(PROXY, &[("x-forwarded-for", "10.9.9.9, 203.0.113.9")], "203.0.113.9")]
    #[case::several_lines(PROXY, &[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "10.1.1.1")], "203.0.113.9")]
    #[case::from_inside(PROXY, &[("x-forwarded-for", "10.3.3.3, 10.1.1.1")], "10.3.3.3")]
    #[case::with_a_port(PROXY, &[("x-forwarded-for", "203.0.113.9:4711")], "203.0.113.9")]
    #[case::ipv6_in_brackets(PROXY, &[("x-forwarded-for", "[2001:db8::1]:4711")], "2001:db8::1")]
    #[case::mapped(PROXY, &[("x-forwarded-for", "::ffff:203.0.113.9")], "203.0.113.9")]
    #[case::a_peer_that_is_mapped("::ffff:10.0.0.7", &[("x-forwarded-for", "203.0.113.9")], "203.0.113.9")]
    #[case::no_address(PROXY, &[("x-forwarded-for", "203.0.113.9, unknown, 10.1.1.1")], "10.1.1.1")]
    #[case::forwarded(PROXY, &[("forwarded", "for=203.0.113.9;proto=https;by=10.0.0.7")], "203.0.113.9")]
    #[case::forwarded_in_capitals(PROXY, &[("forwarded", "proto=http; For=203.0.113.9")], "203.0.113.9")]
    #[case::forwarded_ipv6(PROXY, &[("forwarded", r#"for="[2001:db8:cafe::17]:4711""#)], "2001:db8:cafe::17")]
    #[case::forwarded_hidden(PROXY, &[("forwarded", "for=203.0.113.9, for=_hidden")], PROXY)]
    #[case::a_quote_left_open(PROXY, &[("forwarded", r#"for="198.51.100.1, for=203.0.113.9"#)], "203.0.113.9")]
    #[case::both_agree(PROXY, &[("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")], "203.0.113.9")]
    #[case::one_is_forged(PROXY, &[("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=198.51.100.1")], PROXY)]
    #[case::an_untrusted_peer("203.0.113.9", &[("x-forwarded-for", "198.51.100.1")], "203.0.113.9")]
    #[case::an_untrusted_peer_with_forwarded("203.0.113.9", &[("forwarded", "for=198.51.100.1")], "203.0.113.9")]
    fn client_is_the_nearest_untrusted_address(
        #[case] peer: &str,
        #[case] headers: &[(&str, &str)],
        #[case] expected: &str,
    ) {
        let trusted: Vec<AddressRange> =
            ["10.0.0.0/8", "fd00::/8"].map(|range| range.parse().unwrap()).into();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        assert_eq!(address(peer.parse().unwrap(), &map, &trusted), expected.parse::<IpAddr>().unwrap());
    }

    #[test]
    fn headers_are_ignored_without_trusted_proxies() {
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, "203.0.113.9".parse().unwrap());
        assert_eq!(address(PROXY.parse().unwrap(), &headers, &[]), PROXY.parse::<IpAddr>().unwrap());
    }
}
