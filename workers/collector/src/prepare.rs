//! From a request's bytes to records, ready to be sent: no waiting in here, so that large bodies can be done on a thread
//! of their own.

use std::borrow::Cow;

use herd_spec::units::WallTime;
use herd_spec::wire::dead_letter;

use axum::http::{HeaderMap, StatusCode, header};

use crate::app::App;
use crate::body::{InflateError, Packing, Share, inflate, packing};
use crate::intake::{Accepted, Binary, Code, EVENT_BYTES, Format, Item, Refusal, split};
use crate::keys::Writer;
use crate::problem::Problem;

/// The most attributes of a CloudEvent in headers.
const ATTRIBUTES: usize = 64;

/// A request, read.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) writer: Writer,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// The memory that the body takes.
    pub(crate) share: Share,
    pub(crate) received: WallTime,
}

/// Records to send, one an item.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Record>,
}

/// What an item becomes.
#[derive(Debug)]
pub(crate) enum Record {
    /// A record of the `events` topic.
    Event { accepted: Accepted, value: Vec<u8> },
    /// A record of the `dead-letter` topic.
    Letter(Letter),
}

/// What was refused, as it came.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) refusal: Refusal,
    pub(crate) bytes: Vec<u8>,
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
}

/// How the items of a request came.
enum Kind {
    Items(Format),
    Binary(Vec<(String, String)>),
}

impl Request {
    /// Reads everything in it.
    ///
    /// # Errors
    /// Where nothing of it is taken and nothing kept: not readable as anything known, too long, too much.
    pub(crate) fn prepare(mut self, app: &App) -> Result<(Batch, Share), Problem> {
        let content_type = self.header(header::CONTENT_TYPE.as_str()).map(str::to_owned);
        let kind = self.kind(content_type.as_deref())?;
        let inflated = match packing(&self.headers)? {
            Packing::Plain => None,
            Packing::Gzip => match inflate(&self.body, app.limits().inflated_bytes, &mut self.share) {
                Ok(inflated) => Some(inflated),
                Err(InflateError::Problem(problem)) => return Err(problem),
                Err(InflateError::Broken(refusal)) => {
                    return self.whole(app, refusal, content_type.as_deref(), &self.body);
                }
            },
        };
        let body = inflated.as_deref().unwrap_or(&self.body);
        let items = match &kind {
            Kind::Binary(attributes) => Ok(vec![Item::Binary(Binary {
                attributes: attributes.clone(),
                content_type: content_type.clone(),
                body,
            })]),
            Kind::Items(format) => split(body, *format).map(|(items, _)| items),
        };
        let items = match items {
            Ok(items) => items,
            Err(refusal) => return self.whole(app, refusal, content_type.as_deref(), body),
        };
        let most = app.limits().batch_events as usize;
        if items.len() > most {
            let detail = format!("{} events in one request, {most} are allowed: split them", items.len());
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        app.writers.allow(self.writer, items.len())?;
        let mut batch = Batch { records: Vec::with_capacity(items.len()) };
        for item in &items {
            let mut value = Vec::with_capacity(item.raw().len() + 128);
            let new_id = || uuid::Uuid::now_v7().to_string();
            batch.records.push(match app.intake.accept(item, self.received, new_id, &mut value) {
                Ok(accepted) => Record::Event { accepted, value },
                Err(refusal) => {
                    let mut letter = letter(refusal, item.raw(), content_type.as_deref(), self.received);
                    if let Item::Binary(binary) = item {
                        let attributes = binary.attributes.iter();
                        letter.headers.extend(
                            attributes.map(|(name, value)| (format!("ce-{name}").into(), value.clone())),
                        );
                    }
                    Record::Letter(letter)
                }
            });
        }
        Ok((batch, self.share))
    }

    /// A body that could not be read is one dead letter.
    fn whole(
        &self,
        app: &App,
        refusal: Refusal,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<(Batch, Share), Problem> {
        app.writers.allow(self.writer, 1)?;
        let letter = letter(refusal, body, content_type, self.received);
        Ok((Batch { records: vec![Record::Letter(letter)] }, app.memory.share()))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn kind(&self, content_type: Option<&str>) -> Result<Kind, Problem> {
        let written = content_type.unwrap_or_default();
        let essence = written.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/cloudevents+json" => return Ok(Kind::Items(Format::CloudEvent)),
            "application/cloudevents-batch+json" => return Ok(Kind::Items(Format::CloudEvents)),
            _ if self.headers.contains_key("ce-specversion") => {
                let attributes = self.headers.iter().filter_map(|(name, value)| {
                    let name = name.as_str().strip_prefix("ce-")?;
                    Some((name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                });
                return Ok(Kind::Binary(attributes.take(ATTRIBUTES).collect()));
            }
            _ => {}
        }
        let charset = written.to_ascii_lowercase();
        let foreign = charset.split_once("charset=").map(|(_, name)| name.trim_matches(['"', ' ']));
        let foreign = foreign.filter(|name| !["utf-8", "utf8", "us-ascii"].contains(name));
        match essence.as_str() {
            "application/json" | "text/plain" if foreign.is_none() => Ok(Kind::Items(Format::Json)),
            "" => {
                let detail = "say what the body is: `Content-Type: application/json`";
                Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
            }
            _ => {
                let detail = format!(
                    "content type `{}` is not known here: send application/json or text/plain in UTF-8, or a CloudEvent",
                    written.chars().take(100).collect::<String>()
                );
                Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
            }
        }
    }
}

fn letter(refusal: Refusal, bytes: &[u8], content_type: Option<&str>, received: WallTime) -> Letter {
    let stage = match refusal.code {
        Code::InvalidJson | Code::InvalidGzip => "VALUE_CONVERTER",
        _ => "TRANSFORMATION",
    };
    let mut headers = vec![
        (Cow::Borrowed(dead_letter::TOPIC), "/track".to_owned()),
        (dead_letter::CONNECTOR.into(), "collector".to_owned()),
        (dead_letter::STAGE.into(), stage.to_owned()),
        (dead_letter::ERROR_CLASS.into(), refusal.code.as_str().to_owned()),
        (dead_letter::ERROR_MESSAGE.into(), refusal.detail.clone()),
        (dead_letter::RECEIVED.into(), received.0.to_string()),
    ];
    if let Some(content_type) = content_type {
        headers.push((dead_letter::CONTENT_TYPE.into(), content_type.chars().take(200).collect()));
    }
    // A broker would refuse the whole of it.
    let kept = &bytes[..bytes.len().min(EVENT_BYTES)];
    if kept.len() < bytes.len() {
        headers.push((dead_letter::TRUNCATED.into(), bytes.len().to_string()));
    }
    Letter { refusal, bytes: kept.to_vec(), headers }
}
