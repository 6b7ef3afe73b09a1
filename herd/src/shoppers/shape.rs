//! The JSON that different sites send for the same deed: what the mapping of a pipeline is for.

use clap::ValueEnum;
use serde_json::{Value, json};

/// Whose events they look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// A shop: `view_product`, `add_to_cart`, `purchase` of products with prices.
    #[default]
    Shop,
    /// An anime site: score updates with live members.
    Anime,
    /// A video platform: `play`, `progress`, `complete`, `like`.
    Video,
    /// User journeys: page views, clicks and searches of a session, batched by the tracker.
    Journeys,
}

impl Shape {
    /// The event types it sends, in order of commitment: looking, engaging, committing.
    #[must_use]
    pub fn types(self) -> [&'static str; 3] {
        match self {
            Self::Shop => ["view_product", "add_to_cart", "purchase"],
            Self::Anime => ["VIEW", "MEMBERS_UPDATE", "SCORE_UPDATE"],
            Self::Video => ["play", "progress", "complete"],
            Self::Journeys => ["page_view", "click", "purchase"],
        }
    }

    /// The type of events that tell of this deed.
    #[must_use]
    pub fn event_type(self, deed: Deed) -> &'static str {
        let [look, engage, commit] = self.types();
        match deed {
            Deed::Look => look,
            Deed::Engage => engage,
            Deed::Commit => commit,
        }
    }

    /// What an item is called.
    #[must_use]
    pub fn item(self, number: u64) -> String {
        match self {
            Self::Shop | Self::Journeys => format!("product-{number}"),
            Self::Anime => number.to_string(),
            Self::Video => format!("video-{number}"),
        }
    }
}

/// How far somebody goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Looks at an item.
    Look,
    /// Takes it into the basket, goes on watching…
    Engage,
    /// Buys it, watches it to the end…
    Commit,
}

/// One thing that somebody did, before it has a shape.
#[derive(Clone, Debug)]
pub struct Act {
    /// Its identity.
    pub id: String,
    /// What.
    pub deed: Deed,
    /// Who.
    pub user: u64,
    /// In which visit.
    pub session: u64,
    /// To what.
    pub item: u64,
    /// When, milliseconds since 1970.
    pub time: i64,
    /// Pieces, where bought.
    pub quantity: u32,
    /// With what.
    pub device: &'static str,
    /// Where.
    pub country: &'static str,
}

impl Act {
    /// What a piece of the item costs, in cents: the same for everybody.
    #[must_use]
    pub fn price_cents(&self) -> u64 {
        // Spread over 2.99 … 201.99 without a table: a multiplicative hash of the item.
        299 + (self.item.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 200 * 100
    }

    /// The JSON that a site of this shape sends.
    #[must_use]
    pub fn render(&self, shape: Shape) -> String {
        let kind = shape.event_type(self.deed);
        let item = shape.item(self.item);
        let price = self.price_cents() as f64 / 100.0;
        let value: Value = match shape {
            Shape::Shop => {
                let mut event = json!({
                    "event_id": self.id, "event": kind, "user_id": format!("u-{}", self.user), "product_id": item,
                    "time": self.time, "session_id": format!("s-{}", self.session), "device": self.device,
                    "country": self.country, "price": price,
                });
                if self.deed == Deed::Commit {
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
