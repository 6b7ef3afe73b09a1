//! An explanation in words.

use herd_detection::explain::Few;
use herd_spec::wire::Cause;

use crate::judge::thousands;

/// What is known of the users of an alert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct People {
    /// How many there are; 0 if no event names one.
    pub(super) count: u64,
    /// A few that made most of the events, and which part of them.
    pub(super) few: Option<Few>,
}

/// "92 % of the excess from country BR, 81 % from referrer t.co; 380 people"; if fields were compared and none differs, "no field stands
/// out; 380 people"; of a whole metric "most: product-1 (+120), product-7 (+80)". Users that look automated come first.
pub(super) fn summary(
    causes: &[Cause],
    is_compared: bool,
    moved: &[(String, f64)],
    people: People,
) -> String {
    let value = |(field, value): &(String, String)| {
        let field = field.strip_prefix("properties.").unwrap_or(field);
        if value.is_empty() { format!("events without {field}") } else { format!("{field} {value}") }
    };
    let part = |(place, cause): (usize, &Cause)| {
        let of = if place == 0 { " of the excess" } else { "" };
        let values: Vec<_> = cause.values.iter().map(value).collect();
        format!("{:.0} %{of} from {}", cause.share * 100.0, values.join(" and "))
    };
    let causes: Vec<_> = causes.iter().enumerate().map(part).collect();
    let moved: Vec<_> = moved.iter().map(|(key, more)| format!("{key} ({more:+.0})")).collect();
    let automated = people.few.map(|Few { users, share }| {
        let users = if users == 1 { "1 user".to_owned() } else { format!("{users} users") };
        format!("{users} made {:.0} % of it: looks automated", share * 100.0)
    });
    let count = match people.count {
        _ if automated.is_some() => None,
        0 => None,
        1 => Some("1 person".to_owned()),
        many => Some(format!("{} people", thousands(&many.to_string()))),
    };
    let is_unexplained = is_compared && causes.is_empty() && automated.is_none();
    let moved = (!moved.is_empty()).then(|| format!("most: {}", moved.join(", ")));
    let causes = (!causes.is_empty()).then(|| causes.join(", "));
    let nothing = is_unexplained.then(|| "no field stands out".to_owned());
    [moved, automated, causes, nothing, count].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn cause(field: &str, value: &str, share: f64) -> Cause {
        Cause { values: vec![(field.into(), value.into())], share, usual: 0.1 }
    }

    const MANY: People = People { count: 380, few: None };

    #[rstest]
    #[case::a_pair(
        &[Cause { values: vec![("country".into(), "BR".into()), ("device".into(), "mobile".into())], share: 0.92, usual: 0.01 }], &[], MANY,
        "92 % of the excess from country BR and device mobile; 380 people"
    )]
    #[case::two_causes(
        &[cause("country", "BR", 0.92), cause("properties.referrer", "t.co", 0.81)], &[], MANY,
        "92 % of the excess from country BR, 81 % from referrer t.co; 380 people"
    )]
    #[case::nothing_stands_out(&[], &[], MANY, "no field stands out; 380 people")]
    #[case::thousands(&[], &[], People { count: 12_345, few: None }, "no field stands out; 12,345 people")]
    #[case::a_few_users(&[], &[], People { count: 9, few: Some(Few { users: 3, share: 0.874 }) }, "3 users made 87 % of it: looks automated")]
    #[case::a_few_users_and_a_cause(
        &[cause("country", "BR", 0.92)], &[], People { count: 9, few: Some(Few { users: 1, share: 0.9 }) },
        "1 user made 90 % of it: looks automated; 92 % of the excess from country BR"
    )]
    #[case::without_a_value(&[cause("referrer", "", 0.7)], &[], People { count: 0, few: None }, "70 % of the excess from events without referrer")]
    #[case::of_all(&[], &[("a".into(), 120.2), ("b".into(), 80.0)], MANY, "most: a (+120), b (+80); no field stands out; 380 people")]
    fn explanations_are_sentences(
        #[case] causes: &[Cause],
        #[case] moved: &[(String, f64)],
        #[case] users: People,
        #[case] expected: &str,
    ) {
        assert_eq!(summary(causes, true, moved, users), expected);
    }

    #[test]
    fn without_a_comparison_nothing_is_said_of_fields() {
        assert_eq!(summary(&[], false, &[], MANY), "380 people");
    }
}
