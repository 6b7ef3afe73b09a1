//! Contribution of an event to the statistics of its user: whether it is a purchase, and its revenue.
//!
//! Computed here and not in SQL, so that both dialects agree to the last digit.

use herd_spec::wire::EventRef;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Maximum revenue of one event; higher values are capped, so that sums cannot overflow.
const MOST: f64 = 1e12;

/// The properties from which the revenue is computed, unparsed.
#[derive(Default, Deserialize)]
struct Money<'a> {
    #[serde(borrow, default)]
    revenue: Option<&'a RawValue>,
    #[serde(borrow, default)]
    price: Option<&'a RawValue>,
    #[serde(borrow, default)]
    quantity: Option<&'a RawValue>,
    #[serde(borrow, default)]
    amount: Option<&'a RawValue>,
}

/// Whether an event of this type is a purchase.
pub(crate) fn is_purchase(event: &EventRef<'_>) -> bool {
    matches!(&*event.event_type, "purchase" | "order")
}

/// Revenue of a purchase in millionths: `revenue`, or else `price` × `quantity` (1 if absent), or else `amount`, or else 0. Numbers
/// may be strings.
pub(crate) fn revenue_micros(event: &EventRef<'_>) -> i64 {
    let Some(properties) = event.properties else { return 0 };
    let money: Money<'_> = serde_json::from_str(properties.get()).unwrap_or_default();
    let revenue = number(money.revenue).or_else(|| match number(money.price) {
        // Multiplied in millionths: 9.99 × 3 is 29.97.
        Some(price) => {
            let product = micros(price) * micros(number(money.quantity).unwrap_or(1.0)) / 1_000_000;
            #[allow(clippy::cast_precision_loss)] // capped right after
            return Some(product as f64 / 1e6);
        }
        None => number(money.amount),
    });
    revenue.map_or(0, |revenue| i64::try_from(micros(revenue)).unwrap_or(0))
}

/// A finite number, bare or in a string.
fn number(raw: Option<&RawValue>) -> Option<f64> {
    let text = raw?.get();
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    bare.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

#[allow(clippy::cast_possible_truncation)] // at most 1e18
fn micros(number: f64) -> i128 {
    (number.clamp(-MOST, MOST) * 1e6).round() as i128
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::revenue_goes_first(r#"{"revenue":12.5,"price":3,"amount":9}"#, 12_500_000)]
    #[case::price_times_quantity(r#"{"price":9.99,"quantity":3}"#, 29_970_000)]
    #[case::a_price_alone_is_for_one(r#"{"price":9.99}"#, 9_990_000)]
    #[case::amount_at_last(r#"{"amount":0.1}"#, 100_000)]
    #[case::numbers_may_be_strings(r#"{"price":"9.50","quantity":"2"}"#, 19_000_000)]
    #[case::a_return_is_negative(r#"{"price":4.25,"quantity":-2}"#, -8_500_000)]
    #[case::words_are_no_money(r#"{"revenue":"much","price":null}"#, 0)]
    #[case::nan_is_no_money(r#"{"revenue":"NaN"}"#, 0)]
    #[case::absurd_sums_are_capped(r#"{"revenue":1e300}"#, 1_000_000_000_000_000_000)]
    #[case::absurd_products_are_capped(r#"{"price":1e11,"quantity":1e11}"#, 1_000_000_000_000_000_000)]
    #[case::nothing("{}", 0)]
    fn computes_the_revenue(#[case] properties: &str, #[case] micros: i64) {
        let line = format!(
            r#"{{"v":1,"event_id":"e","type":"purchase","time":0,"received":0,"properties":{properties}}}"#
        );
        assert_eq!(revenue_micros(&EventRef::parse(line.as_bytes()).unwrap()), micros);
    }
}
