use std::collections::{HashMap, HashSet};

use herd_collector::intake::{Intake, Item};
use herd_spec::units::WallTime;
use herd_spec::wire::Event;
use rstest::rstest;

use super::*;

fn settings() -> Settings {
    Settings {
        seed: 7,
        start: EventTime(1_700_000_000_000),
        users: 1_000,
        items: 400,
        skew: 1.0,
        profile: Profile::steady(500.0),
        shape: Shape::Shop,
        faults: Faults::default(),
    }
}

fn field<'a>(event: &'a serde_json::Value, name: &str) -> &'a str {
    event[name].as_str().unwrap()
}

fn json(planned: &GeneratedEvent) -> serde_json::Value {
    serde_json::from_str(&planned.body).unwrap()
}

#[rstest]
fn events_are_determined_by_the_seed(
    #[values(Shape::Shop, Shape::Anime, Shape::Video, Shape::Journeys)] shape: Shape,
) {
    let faults = Faults { duplicates: 0.05, invalid: 0.02, disorder: Duration::from_secs(20) };
    let settings = Settings { faults, shape, ..settings() };
    let one: Vec<_> = Shoppers::new(settings).take(5_000).collect();
    let two: Vec<_> = Shoppers::new(settings).take(5_000).collect();
    assert_eq!(one, two);
    let other: Vec<_> = Shoppers::new(Settings { seed: 8, ..settings }).take(5_000).collect();
    assert_ne!(one, other);
}

#[test]
fn titles_have_a_history_of_members_scores_and_ranks() {
    let mut last: HashMap<u64, (u64, f64, Option<u64>)> = HashMap::new();
    let (mut updates, mut first, mut changes) = (0, 0, 0);
    let settings = Settings { shape: Shape::Anime, ..settings() };
    for event in Shoppers::new(settings).take(20_000).map(|planned| json(&planned)) {
        let number = |name: &str| event[name].as_u64();
        let (id, members) = (number("malId").unwrap(), number("liveMembers").unwrap());
        let score = event["currentScore"].as_f64().unwrap();
        let (before, old_score, rank) = last.get(&id).copied().unwrap_or((members, score, None));
        match field(&event, "eventType") {
            "MEMBER_UPDATE" => {
                updates += 1;
                assert!(members > before || !last.contains_key(&id));
                last.insert(id, (members, score, rank));
            }
            "SCORE_UPDATE" => {
                assert_eq!(members, before);
                assert!((1.0..=10.0).contains(&score) && (score - old_score).abs() < 0.051);
                last.insert(id, (members, score, rank));
            }
            "TRENDING_CHANGE" => {
                let now = number("trendingRank");
                assert!(now.is_none_or(|rank| (1..=titles::RANKS as u64).contains(&rank)));
                assert_eq!(number("previousRank"), rank, "{event}");
                changes += u32::from(rank.is_some() && rank != now);
                first += u32::from(id == 5114 && now == Some(1));
                last.insert(id, (members, score, now));
            }
            other => panic!("{other}"),
        }
    }
    assert!(updates > 10_000 && changes > 50, "{updates} {changes}");
    assert!(first > 20, "the most popular title leads: {first}");
}

#[test]
fn videos_are_watched_on_and_finished() {
    let settings = Settings { shape: Shape::Video, ..settings() };
    let mut types: HashMap<String, u32> = HashMap::new();
    for event in Shoppers::new(settings).take(20_000).map(|planned| json(&planned)) {
        let kind = field(&event, "event");
        *types.entry(kind.to_owned()).or_default() += 1;
        let seconds = event["watched_seconds"].as_u64().unwrap();
        assert_eq!(seconds == 0, kind == "play", "{event}");
        assert!(field(&event["video"], "id").starts_with("video-"));
    }
    assert!(types["play"] > types["progress"] && types["progress"] > types["finish"]);
    assert!(types["finish"] > 100);
}

#[test]
fn events_have_the_rate_and_are_ordered_by_time() {
    let events: Vec<_> = Shoppers::new(settings()).take(20_000).collect();
    assert!(events.is_sorted_by_key(|event| event.at));
    let rate = 20_000.0 / events.last().unwrap().at.as_secs_f64();
    assert!((480.0..520.0).contains(&rate), "{rate}");
}

#[test]
fn ids_are_unique_and_popularity_follows_zipf() {
    let mut ids = HashSet::new();
    let mut views: HashMap<String, u32> = HashMap::new();
    let mut types: HashMap<String, u32> = HashMap::new();
    for event in Shoppers::new(settings()).take(20_000).map(|planned| json(&planned)) {
        assert!(ids.insert(field(&event, "event_id").to_owned()));
        *views.entry(field(&event, "product_id").to_owned()).or_default() += 1;
        *types.entry(field(&event, "event").to_owned()).or_default() += 1;
    }
    // Zipf with exponent 1 over 400 items: the first has 1/H(400) = 15 %.
    assert!((2_600..3_500).contains(&views["product-1"]), "{}", views["product-1"]);
    assert!(views["product-2"] < views["product-1"]);
    assert!(types["view_product"] > types["add_to_cart"] && types["add_to_cart"] > types["purchase"]);
    assert!(types["purchase"] > 100);
}

#[test]
fn faults_have_the_configured_fractions() {
    let faults = Faults { duplicates: 0.05, invalid: 0.02, disorder: Duration::from_secs(20) };
    let settings = Settings { faults, ..settings() };
    let events: Vec<_> = Shoppers::new(settings).take(50_000).collect();
    let mut sent = HashSet::new();
    let (mut duplicates, mut invalid, mut late) = (0, 0, 0);
    for event in &events {
        match event.kind {
            Kind::Duplicate => {
                duplicates += 1;
                assert!(sent.contains(&event.body), "a duplicate has come before");
            }
            Kind::Invalid { breaks_json } => {
                invalid += 1;
                let parsed = serde_json::from_str::<serde_json::Value>(&event.body);
                assert_eq!(parsed.is_err(), breaks_json, "{}", event.body);
                assert!(sent.insert(event.body.clone()), "invalid events are unique");
            }
            Kind::Fresh => {
                assert!(sent.insert(event.body.clone()));
                let behind = settings.start.plus(event.at).since(event.time);
                assert!(behind <= faults.disorder);
                late += u32::from(behind > Duration::from_secs(1));
            }
        }
    }
    assert!((2_300..2_700).contains(&duplicates), "{duplicates}");
    assert!((900..1_100).contains(&invalid), "{invalid}");
    assert!(late > 20_000, "{late}");
}

#[test]
fn a_crowd_concerns_one_item_during_its_time() {
    let crowds = Crowds {
        first: Duration::from_secs(10),
        every: Duration::from_secs(30),
        length: Duration::from_secs(5),
        rate: 200.0,
    };
    let profile = Profile { kind: ProfileKind::Flash, crowds, ..Profile::steady(100.0) };
    let settings = Settings { profile, ..settings() };
    let crowd: Vec<_> = Shoppers::new(settings)
        .take_while(|event| event.at < Duration::from_secs(30))
        .filter(|event| event.crowd == Some(0))
        .collect();
    assert!((850..1_150).contains(&crowd.len()), "{}", crowd.len());
    for event in crowd {
        assert!((10.0..15.0).contains(&event.at.as_secs_f64()));
        assert_eq!(field(&json(&event), "product_id"), Shoppers::crowd_key(&settings, 0));
    }
}

/// The example of a kind takes its events, with an item.
#[rstest]
#[case("shop", Shape::Shop)]
#[case("anime", Shape::Anime)]
#[case("video", Shape::Video)]
fn events_are_accepted_by_the_example_of_their_kind(#[case] example: &str, #[case] shape: Shape) {
    let path = format!("{}/../examples/{example}.yaml", env!("CARGO_MANIFEST_DIR"));
    let spec = herd_spec::document::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    let plan = herd_spec::plan::Plan::parse(&spec).unwrap();
    let intake = Intake::new(&plan.events).unwrap();
    let settings = Settings { shape, ..settings() };
    for event in Shoppers::new(settings).take(2_000) {
        let mut record = Vec::new();
        let received = WallTime(event.time.0);
        let accepted = intake.accept(&Item::Json(&event.body), received, || unreachable!(), &mut record);
        assert!(accepted.is_ok(), "{accepted:?}: {}", event.body);
        let item = Event::parse(&record).unwrap().item_id;
        assert_eq!(item, event.about.map(|(_, item)| shape.item(item)));
    }
}
