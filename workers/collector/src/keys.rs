//! Authentication by write keys, and rate limits.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, Uri, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use governor::clock::{Clock, DefaultClock};
use governor::{
    DefaultDirectRateLimiter, DefaultKeyedRateLimiter, InsufficientCapacity, NotUntil, Quota, RateLimiter,
};
use herd_spec::plan::CollectorPlan;
use herd_stage::{Problem, Secret, SecretError, Secrets};
use subtle::ConstantTimeEq;

/// Write keys with their rate limiters; without keys, rate limiters by client address.
#[derive(Debug)]
pub(crate) struct Writers {
    keys: Vec<WriteKey>,
    addresses: Option<(u32, DefaultKeyedRateLimiter<IpAddr>)>,
    clock: DefaultClock,
}

#[derive(Debug)]
struct WriteKey {
    secret: Secret,
    rate: Option<(u32, DefaultDirectRateLimiter)>,
}

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// The key with this index.
    Key(usize),
    /// The client at this address.
    Address(IpAddr),
}

fn quota(events_per_second: u32) -> Option<(u32, Quota)> {
    NonZeroU32::new(events_per_second).map(|rate| (events_per_second, Quota::per_second(rate)))
}

impl Writers {
    pub(crate) fn new(plan: &CollectorPlan, secrets: &Secrets) -> Result<Self, SecretError> {
        let keys = plan.keys.iter().map(|key| {
            let rate = key.events_per_second.and_then(quota);
            let rate = rate.map(|(most, quota)| (most, RateLimiter::direct(quota)));
            Ok(WriteKey { secret: secrets.read(&key.secret)?, rate })
        });
        let keys = keys.collect::<Result<Vec<_>, SecretError>>()?;
        let each = plan.limits.events_per_second_per_key.filter(|_| keys.is_empty()).and_then(quota);
        let addresses = each.map(|(most, quota)| (most, RateLimiter::keyed(quota)));
        Ok(Self { keys, addresses, clock: DefaultClock::default() })
    }

    /// Identifies the sender of a request.
    ///
    /// # Errors
    /// 401 without a key if one is required, 403 with an invalid key.
    pub(crate) fn identify(&self, headers: &HeaderMap, uri: &Uri, from: IpAddr) -> Result<Writer, Problem> {
        if self.keys.is_empty() {
            return Ok(Writer::Address(from));
        }
        let Some(given) = given_key(headers, uri) else {
            let detail = "a write key is required: send it as `Authorization: Bearer KEY` or `X-Write-Key: KEY`, or, for \
                          beacons, as `?key=KEY`";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
        };
        self.find(&given)
    }

    /// Identifies the sender of a request to Segment's API by its headers; none if they have no key: the body may have one.
    ///
    /// # Errors
    /// 403 with an invalid key.
    pub(crate) fn identify_segment(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        from: IpAddr,
    ) -> Result<Option<Writer>, Problem> {
        if self.keys.is_empty() {
            return Ok(Some(Writer::Address(from)));
        }
        let given = basic_user(headers).or_else(|| given_key(headers, uri));
        given.map(|given| self.find(&given)).transpose()
    }

    /// Identifies the sender by the `writeKey` in the body of such a request.
    ///
    /// # Errors
    /// 401 without a key, 403 with an invalid one.
    pub(crate) fn identify_body(&self, write_key: Option<&str>) -> Result<Writer, Problem> {
        let detail = "a write key is required: send it as the user name of basic authentication, or as `writeKey` in the body";
        self.find(write_key.ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, detail))?)
    }

    fn find(&self, given: &str) -> Result<Writer, Problem> {
        // All keys are compared, each in constant time, so that the timing reveals nothing.
        let mut matching = None;
        for (place, key) in self.keys.iter().enumerate() {
            if bool::from(key.secret.reveal().as_bytes().ct_eq(given.as_bytes())) {
                matching = Some(place);
            }
        }
        matching.map(Writer::Key).ok_or_else(|| {
            Problem::new(StatusCode::FORBIDDEN, "the write key is not valid for this pipeline")
        })
    }

    /// Applies the rate limit of the sender to `events`.
    ///
    /// # Errors
    /// 429 with `Retry-After`; 413 if a single request exceeds the limit.
    pub(crate) fn allow(&self, writer: Writer, events: usize) -> Result<(), Problem> {
        let Some(count) = u32::try_from(events).ok().and_then(NonZeroU32::new) else { return Ok(()) };
        let (most, outcome) = match writer {
            Writer::Key(place) => match self.keys.get(place).and_then(|key| key.rate.as_ref()) {
                Some((most, limiter)) => (*most, self.wait(limiter.check_n(count))),
                None => return Ok(()),
            },
            Writer::Address(address) => match &self.addresses {
                Some((most, limiter)) => (*most, self.wait(limiter.check_key_n(&address, count))),
                None => return Ok(()),
            },
        };
        match outcome {
            Ok(None) => Ok(()),
            Ok(Some(pause)) => {
                let detail = format!(
                    "the rate limit of {most} events per second is exceeded: retry later and send more slowly"
                );
                Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).after(pause))
            }
            Err(InsufficientCapacity(_)) => {
                let detail = format!(
                    "{events} events in one request exceed the rate limit of {most} events per second: split the request"
                );
                Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
            }
        }
    }

    fn wait<P: governor::clock::Reference>(
        &self,
        outcome: Result<Result<(), NotUntil<P>>, InsufficientCapacity>,
    ) -> Result<Option<Duration>, InsufficientCapacity>
    where
        DefaultClock: Clock<Instant = P>,
    {
        Ok(outcome?.err().map(|until| until.wait_time_from(self.clock.now())))
    }

    /// Drops the limiters of idle addresses.
    pub(crate) fn forget_idle(&self) {
        if let Some((_, limiter)) = &self.addresses {
            limiter.retain_recent();
        }
    }
}

/// The user name of basic authentication; SDKs leave the password empty.
fn basic_user(headers: &HeaderMap) -> Option<String> {
    let (scheme, encoded) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| BASE64_STANDARD.decode(encoded.trim()))?;
    let text = String::from_utf8(decoded.ok()?).ok()?;
    Some(text.split_once(':').map_or(text.as_str(), |(user, _)| user).to_owned())
}

fn given_key(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(bearer) = header(header::AUTHORIZATION.as_str()).and_then(|value| value.split_once(' '))
        && bearer.0.eq_ignore_ascii_case("bearer")
    {
        return Some(bearer.1.trim().to_owned());
    }
    if let Some(key) = header("x-write-key") {
        return Some(key.to_owned());
    }
    #[derive(serde::Deserialize)]
    struct KeyQuery {
        key: Option<String>,
    }
    axum::extract::Query::<KeyQuery>::try_from_uri(uri).ok().and_then(|query| query.0.key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn writers(rate: Option<u32>, keys: &[(&str, Option<u32>)]) -> Writers {
        let limiter = |rate| quota(rate).map(|(most, quota)| (most, RateLimiter::direct(quota)));
        Writers {
            keys: keys
                .iter()
                .map(|(secret, rate)| WriteKey { secret: Secret::new(*secret), rate: rate.and_then(limiter) })
                .collect(),
            addresses: rate.and_then(quota).map(|(most, quota)| (most, RateLimiter::keyed(quota))),
            clock: DefaultClock::default(),
        }
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[rstest]
    #[case::bearer("authorization", "Bearer s3cret", "/track", Ok(Writer::Key(1)))]
    #[case::bearer_in_lower_case("authorization", "bearer s3cret", "/track", Ok(Writer::Key(1)))]
    #[case::header("x-write-key", "first", "/track", Ok(Writer::Key(0)))]
    #[case::query("accept", "*/*", "/track?key=s3cret", Ok(Writer::Key(1)))]
    #[case::none("accept", "*/*", "/track", Err(401))]
    #[case::basic("authorization", "Basic czNjcmV0", "/track", Err(401))]
    #[case::wrong("x-write-key", "s3cre", "/track", Err(403))]
    #[case::empty("x-write-key", "", "/track", Err(403))]
    fn identifies_keys_in_headers_and_query(
        #[case] name: &'static str,
        #[case] value: &str,
        #[case] uri: &str,
        #[case] expected: Result<Writer, u16>,
    ) {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        let writers = writers(None, &[("first", None), ("s3cret", None)]);
        let found = writers.identify(&headers, &uri.parse().unwrap(), HERE);
        assert_eq!(found.map_err(|problem| problem.status.as_u16()), expected);
    }

    #[rstest]
    #[case::user_of_basic_authentication("authorization", "Basic czNjcmV0Og==", Ok(Some(Writer::Key(1))))]
    #[case::without_a_colon("authorization", "basic czNjcmV0", Ok(Some(Writer::Key(1))))]
    #[case::bearer("authorization", "Bearer s3cret", Ok(Some(Writer::Key(1))))]
    #[case::wrong("authorization", "Basic d3Jvbmc6", Err(403))]
    #[case::not_base64("authorization", "Basic ***", Ok(None))]
    #[case::none("accept", "*/*", Ok(None))]
    fn identifies_keys_as_sdks_of_segment_send_them(
        #[case] name: &'static str,
        #[case] value: &str,
        #[case] expected: Result<Option<Writer>, u16>,
    ) {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        let writers = writers(None, &[("first", None), ("s3cret", None)]);
        let found = writers.identify_segment(&headers, &"/v1/batch".parse().unwrap(), HERE);
        assert_eq!(found.map_err(|problem| problem.status.as_u16()), expected);
        let by_body = |key| writers.identify_body(key).map_err(|problem| problem.status.as_u16());
        assert_eq!(
            [by_body(Some("s3cret")), by_body(Some("no")), by_body(None)],
            [Ok(Writer::Key(1)), Err(403), Err(401)]
        );
    }

    #[test]
    fn rate_limits_apply_per_key_with_retry_after() {
        let writers = writers(None, &[("slow", Some(10)), ("free", None)]);
        assert_eq!(writers.allow(Writer::Key(0), 10), Ok(()));
        let problem = writers.allow(Writer::Key(0), 5).unwrap_err();
        assert_eq!(problem.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(problem.retry_after.unwrap() <= Duration::from_millis(500));
        assert_eq!(writers.allow(Writer::Key(0), 11).unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(writers.allow(Writer::Key(1), 100_000), Ok(()));
    }

    #[test]
    fn rate_limits_apply_per_address_without_keys() {
        let writers = writers(Some(3), &[]);
        let other = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(writers.allow(Writer::Address(HERE), 3), Ok(()));
        assert!(writers.allow(Writer::Address(HERE), 3).is_err());
        assert_eq!(writers.allow(Writer::Address(other), 3), Ok(()));
        writers.forget_idle();
    }
}
