//! The JSON that different sites send for the same action: what the mapping of a pipeline is for.

use clap::ValueEnum;
use serde_json::{Value, json};

/// Format of the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Shop: `view_product`, `add_to_cart`, `purchase` of products with prices.
    #[default]
    Shop,
    /// Anime site: score updates with live members.
    Anime,
    /// Video platform: `play`, `progress`, `complete`.
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
            Self::Anime => ["VIEW", "MEMBERS_UPDATE", "SCORE_UPDATE"],
            Self::Video => ["play", "progress", "complete"],
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
            Self::Anime => number.to_string(),
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
            Shape::Anime => json!({
                "eventId": self.id, "malId": self.item, "title": format!("Anime {}", self.item), "eventType": kind,
                "currentScore": 6.0 + (self.price_cents() % 350) as f64 / 100.0, "liveMembers": 100 + self.session % 10_000,
                "timestamp": self.time,
            }),
            Shape::Video => json!({
                "event_id": self.id, "event": kind, "user_id": format!("u-{}", self.user), "video_id": item,
                "position_seconds": self.session % 3_600, "device": self.device, "timestamp": self.time,
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
