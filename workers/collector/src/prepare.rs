//! From the bytes of a request to records. Nothing here is asynchronous, so that large bodies can be handled on a blocking thread.

use std::borrow::Cow;

use herd_spec::units::WallTime;
use herd_spec::wire::dead_letter;
use herd_stage::Problem;

use axum::http::{HeaderMap, StatusCode, header};

use crate::app::App;
use crate::body::{Encoding, InflateError, Reservation, encoding, inflate};
use crate::intake::segment::{self, Call};
use crate::intake::{Accepted, Binary, Context, EVENT_BYTES, Format, Item, Refusal, split};
use crate::keys::Writer;

/// Maximum number of CloudEvent attributes in headers.
const MAX_ATTRIBUTES: usize = 64;

/// A request that has been read.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) endpoint: Endpoint,
    /// The sender; none: the body says who it is.
    pub(crate) writer: Option<Writer>,
    pub(crate) context: Context,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// The memory reserved for the body.
    pub(crate) reservation: Reservation,
    pub(crate) received: WallTime,
}

/// Where a request was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/track` and `/track.gif`.
    Track,
    /// `/v1/batch` of Segment's API, or one of its single calls.
    Segment(Option<Call>),
}

impl Endpoint {
    fn path(self) -> String {
        match self {
            Self::Track => "/track".to_owned(),
            Self::Segment(call) => format!("/v1/{}", call.map_or("batch", Call::as_str)),
        }
    }
}

/// Records to send, one per item.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) endpoint: Endpoint,
    pub(crate) records: Vec<Record>,
}

/// The record made from an item.
#[derive(Debug)]
pub(crate) enum Record {
    /// A record of the `events` topic.
    Event { accepted: Accepted, value: Vec<u8> },
    /// A record of the `dead-letter` topic.
    DeadLetter(DeadLetter),
    /// No record: the item is answered for without being stored.
    Ignored,
}

/// A refused item, unchanged.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    pub(crate) refusal: Refusal,
    pub(crate) bytes: Vec<u8>,
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
}

/// Format of a request.
enum Kind {
    Items(Format),
    Segment(Option<Call>),
    Binary(Vec<(String, String)>),
}

impl Request {
    /// Makes a record of each item.
    ///
    /// # Errors
    /// If the whole request is refused without a dead letter: unsupported format, size limit or rate limit.
    pub(crate) fn prepare(mut self, app: &App) -> Result<(Batch, Reservation), Problem> {
        let content_type = self.header(header::CONTENT_TYPE.as_str()).map(str::to_owned);
        let kind = self.kind(content_type.as_deref())?;
        let inflated = match encoding(&self.headers)? {
            Encoding::Identity => None,
            Encoding::Compressed(compression) => {
                match inflate(compression, &self.body, app.limits().inflated_bytes, &mut self.reservation) {
                    Ok(inflated) => Some(inflated),
                    Err(InflateError::Problem(problem)) => return Err(problem),
                    Err(InflateError::Broken(refusal)) => {
                        return self.whole(app, refusal, content_type.as_deref(), &self.body);
                    }
                }
            }
        };
        let body = inflated.as_deref().unwrap_or(&self.body);
        let mut write_key = None;
        let items = match &kind {
            Kind::Binary(attributes) => Ok(vec![Item::Binary(Binary {
                attributes: attributes.clone(),
                content_type: content_type.clone(),
                body,
            })]),
            Kind::Items(format) => split(body, *format).map(|(items, _)| items),
            Kind::Segment(call) => {
                let received = received_before(&self.headers).unwrap_or(self.received);
                segment::body(body, *call, received).map(|body| {
                    write_key = body.write_key;
                    body.items
                })
            }
        };
        if self.writer.is_none() {
            self.writer = Some(app.writers.identify_body(write_key.as_deref())?);
        }
        let items = match items {
            Ok(items) => items,
            Err(refusal) => return self.whole(app, refusal, content_type.as_deref(), body),
        };
        let most = app.limits().batch_events as usize;
        if items.len() > most {
            let detail =
                format!("the request has {} events, but at most {most} are allowed: split it", items.len());
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        self.allow(app, items.len())?;
        let mut batch = Batch { endpoint: self.endpoint, records: Vec::with_capacity(items.len()) };
        for item in &items {
            if app.intake.ignores(item) {
                batch.records.push(Record::Ignored);
                continue;
            }
            let mut value = Vec::with_capacity(item.raw().len() + 128);
            let new_id = || uuid::Uuid::now_v7().to_string();
            let accepted = app.intake.accept_with(item, &self.context, self.received, new_id, &mut value);
            batch.records.push(match accepted {
                Ok(accepted) => Record::Event { accepted, value },
                Err(refusal) => {
                    let mut record = self.dead_letter_of(refusal, item.raw(), content_type.as_deref());
                    match item {
                        Item::Binary(binary) => {
                            let attributes = binary.attributes.iter();
                            record.headers.extend(
                                attributes.map(|(name, value)| (format!("ce-{name}").into(), value.clone())),
                            );
                        }
                        Item::Segment(message) => {
                            let sent_at = message.sent_at().map(|time| time.rfc3339());
                            record.headers.extend(sent_at.map(|time| (dead_letter::SENT_AT.into(), time)));
                        }
                        Item::Json(_) | Item::CloudEvent(_) => {}
                    }
                    Record::DeadLetter(record)
                }
            });
        }
        Ok((batch, self.reservation))
    }

    /// Applies the rate limit of the sender.
    fn allow(&self, app: &App, items: usize) -> Result<(), Problem> {
        self.writer.map_or(Ok(()), |writer| app.writers.allow(writer, items))
    }

    /// Makes one dead letter of a body that could not be parsed.
    fn whole(
        &self,
        app: &App,
        refusal: Refusal,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<(Batch, Reservation), Problem> {
        if self.writer.is_none() {
            // A key in a body that cannot be read is none.
            app.writers.identify_body(None)?;
        }
        self.allow(app, 1)?;
        let record = Record::DeadLetter(self.dead_letter_of(refusal, body, content_type));
        Ok((Batch { endpoint: self.endpoint, records: vec![record] }, app.memory.reserve()))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn kind(&self, content_type: Option<&str>) -> Result<Kind, Problem> {
        let written = content_type.unwrap_or_default();
        let essence = written.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let segment = match self.endpoint {
            Endpoint::Track => None,
            Endpoint::Segment(call) => Some(Kind::Segment(call)),
        };
        match essence.as_str() {
            _ if segment.is_some() => {}
            "application/cloudevents+json" => return Ok(Kind::Items(Format::CloudEvent)),
            "application/cloudevents-batch+json" => return Ok(Kind::Items(Format::CloudEvents)),
            _ if self.headers.contains_key("ce-specversion") => {
                let attributes = self.headers.iter().filter_map(|(name, value)| {
                    let name = name.as_str().strip_prefix("ce-")?;
                    Some((name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                });
                return Ok(Kind::Binary(attributes.take(MAX_ATTRIBUTES).collect()));
            }
            _ => {}
        }
        let charset = written.to_ascii_lowercase();
        let foreign = charset.split_once("charset=").map(|(_, name)| name.trim_matches(['"', ' ']));
        let foreign = foreign.filter(|name| !["utf-8", "utf8", "us-ascii"].contains(name));
        match essence.as_str() {
            "application/json" | "text/plain" if foreign.is_none() => {
                Ok(segment.unwrap_or(Kind::Items(Format::Json)))
            }
            "" => {
                let detail = "the content type is missing: send `Content-Type: application/json`";
                Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
            }
            _ => {
                let detail = format!(
                    "content type `{}` is not supported: send application/json or text/plain in UTF-8, or a CloudEvent",
                    written.chars().take(100).collect::<String>()
                );
                Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
            }
        }
    }

    fn dead_letter_of(&self, refusal: Refusal, bytes: &[u8], content_type: Option<&str>) -> DeadLetter {
        let stage = if refusal.code.is_unreadable() { "VALUE_CONVERTER" } else { "TRANSFORMATION" };
        let mut headers = vec![
            (Cow::Borrowed(dead_letter::TOPIC), self.endpoint.path()),
            (dead_letter::CONNECTOR.into(), "collector".to_owned()),
            (dead_letter::STAGE.into(), stage.to_owned()),
            (dead_letter::ERROR_CLASS.into(), refusal.code.as_str().to_owned()),
            (dead_letter::ERROR_MESSAGE.into(), refusal.detail.clone()),
            (dead_letter::RECEIVED.into(), self.received.0.to_string()),
        ];
        if let Some(content_type) = content_type {
            headers.push((dead_letter::CONTENT_TYPE.into(), content_type.chars().take(200).collect()));
        }
        // The broker would refuse a longer record.
        let kept = &bytes[..bytes.len().min(EVENT_BYTES)];
        if kept.len() < bytes.len() {
            headers.push((dead_letter::TRUNCATED.into(), bytes.len().to_string()));
        }
        DeadLetter { refusal, bytes: kept.to_vec(), headers }
    }
}

/// When the events of a request were received for the first time, if they are dead letters that are sent again. By it, the skew of their
/// sender's clock is measured.
pub(crate) fn received_before(headers: &HeaderMap) -> Option<WallTime> {
    let written: u64 = headers.get(dead_letter::REQUEST_RECEIVED)?.to_str().ok()?.parse().ok()?;
    i64::try_from(written).ok().map(WallTime)
}
