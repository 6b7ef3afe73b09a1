//! The JSON that different sites send for the same action: what the mapping of a pipeline is for.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::titles::{self, Title};

/// Format of the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Shop: `view_product`, `add_to_cart`, `purchase` of products with prices.
    #[default]
    Shop,
    /// Anime site: `MEMBER_UPDATE`, `SCORE_UPDATE` and `TRENDING_CHANGE` of titles, with score and members.
    Anime,
    /// Video platform: `play`, `progress`, `finish`, with the seconds watched.
    Video,
    /// User journeys: page views, clicks and purchases of a session.
    Journeys,
}

impl Shape {
    /// The event types of [`Action::View`], [`Action::Engage`] and [`Action::Convert`], in this order.
    #[must_use]
    pub fn types(self) -> [&'static str; 3] {
        match self {
            Self::Shop => ["view_product", "add_to_cart", "purchase"],
            Self::Anime => ["MEMBER_UPDATE", "SCORE_UPDATE", "TRENDING_CHANGE"],
            Self::Video => ["play", "progress", "finish"],
            Self::Journeys => ["page_view", "click", "purchase"],
        }
    }

    /// The event type of an action.
    #[must_use]
    pub fn event_type(self, action: Action) -> &'static str {
        let [look, engage, commit] = self.types();
        match action {
            Action::View => look,
            Action::Engage => engage,
            Action::Convert => commit,
        }
    }

    /// Id of an item.
    #[must_use]
    pub fn item(self, number: u64) -> String {
        match self {
            Self::Shop | Self::Journeys => format!("product-{number}"),
            Self::Anime => titles::mal_id(number).to_string(),
            Self::Video => format!("video-{number}"),
        }
    }
}

/// What a user does with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Views the item.
    View,
    /// Adds it to the cart, continues watching, …
    Engage,
    /// Buys it, watches it to the end, …
    Convert,
}

/// An event of a user, before it is rendered in a format.
#[derive(Clone, Debug)]
pub struct UserEvent {
    /// Event id.
    pub id: String,
    /// Action of the user.
    pub action: Action,
    /// User number.
    pub user: u64,
    /// Session number.
    pub session: u64,
    /// Item number.
    pub item: u64,
    /// Event time, milliseconds since 1970.
    pub time: i64,
    /// Quantity, for purchases.
    pub quantity: u32,
    /// Seconds of the video that have been watched.
    pub watched: u32,
    /// The title after the event, for [`Shape::Anime`].
    pub title: Option<Title>,
    /// Device.
    pub device: &'static str,
    /// Country.
    pub country: &'static str,
    /// Host of the page from which the user came; empty: none.
    pub referrer: &'static str,
}

impl UserEvent {
    /// Unit price of the item in cents.
    #[must_use]
    pub fn price_cents(&self) -> u64 {
        // Spread over 2.99 … 201.99 without a table: a multiplicative hash of the item.
        299 + (self.item.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 200 * 100
    }

    /// The event as JSON in this format.
    #[must_use]
    pub fn render(&self, shape: Shape) -> String {
        let kind = shape.event_type(self.action);
        let item = shape.item(self.item);
        let price = self.price_cents() as f64 / 100.0;
        let value: Value = match shape {
            Shape::Shop => {
                let mut event = json!({
                    "event_id": self.id, "event": kind, "user_id": format!("u-{}", self.user), "product_id": item,
                    "time": self.time, "session_id": format!("s-{}", self.session), "device": self.device,
                    "country": self.country, "price": price,
                });
                if !self.referrer.is_empty() {
                    event["referrer"] = self.referrer.into();
                }
                if self.action == Action::Convert {
                    event["quantity"] = self.quantity.into();
                }
                event
            }
            Shape::Anime => {
                let mut event = json!({
                    "eventId": self.id, "malId": titles::mal_id(self.item), "title": titles::name(self.item), "eventType": kind,
                    "timestamp": self.time,
                });
                if let Some(title) = self.title {
                    event["currentScore"] = (f64::from(title.score) / 100.0).into();
                    event["liveMembers"] = title.members.into();
                    if self.action == Action::Convert {
                        event["trendingRank"] = title.rank.into();
                        event["previousRank"] = title.previous_rank.into();
                    }
                }
                event
            }
            Shape::Video => json!({
                "event_id": self.id, "event": kind, "user_id": format!("u-{}", self.user), "video": {"id": item},
                "watched_seconds": self.watched, "device": self.device, "timestamp": self.time,
            }),
            Shape::Journeys => json!({
                "id": self.id, "userId": format!("u-{}", self.user), "sessionId": format!("s-{}", self.session),
                "eventType": kind, "productId": item, "page": format!("/products/{item}"), "timestamp": self.time,
                "device": self.device, "price": price, "quantity": self.quantity,
            }),
        };
        value.to_string()
    }
}
