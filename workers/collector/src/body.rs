//! Reading a request's body, within limits of size, time and memory.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use flate2::read::MultiGzDecoder;
use herd_spec::pipeline::LimitsSpec;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::intake::{Code, Refusal};
use crate::problem::Problem;

/// Bytes of a page of memory: what is counted.
const PAGE: usize = 4096;
/// How much is inflated at a time.
const CHUNK: usize = 64 << 10;

/// The memory that all bodies together may take.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<Semaphore>);

/// A part of that memory; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    memory: Memory,
    taken: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Memory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / PAGE)))
    }

    pub(crate) fn share(&self) -> Share {
        Share { memory: self.clone(), taken: None, bytes: 0 }
    }
}

impl Share {
    fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        self.bytes += bytes;
        let held = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = self.bytes.div_ceil(PAGE).saturating_sub(held);
        if more == 0 {
            return Ok(());
        }
        let permit = u32::try_from(more)
            .ok()
            .and_then(|more| Arc::clone(&self.memory.0).try_acquire_many_owned(more).ok());
        let Some(permit) = permit else {
            return Err(Problem::busy("too many large requests at once").closing());
        };
        match &mut self.taken {
            Some(taken) => taken.merge(permit),
            None => self.taken = Some(permit),
        }
        Ok(())
    }
}

fn too_large(most: u64, what: &str) -> Problem {
    let detail = format!("the body is longer than {most} bytes{what}: split it");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

/// Reads a body as it was sent.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: &LimitsSpec,
    share: &mut Share,
) -> Result<Vec<u8>, Problem> {
    let most = limits.body_bytes;
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most) {
        return Err(too_large(most, "").closing());
    }
    let slow = |limit: Duration| {
        let detail = format!("the body did not arrive within {limit:?}");
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail).closing()
    };
    let within = limits.body_timeout.0;
    tokio::time::timeout(within, collect(body, announced, most, share)).await.map_err(|_| slow(within))?
}

async fn collect(
    mut body: Body,
    announced: Option<u64>,
    most: u64,
    share: &mut Share,
) -> Result<Vec<u8>, Problem> {
    // What is announced is not yet sent: memory is taken as it comes.
    let expected = usize::try_from(announced.unwrap_or(0)).unwrap_or(0).min(CHUNK);
    let mut bytes = Vec::with_capacity(expected);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")).closing()
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() as u64 + data.len() as u64 > most {
            return Err(too_large(most, "").closing());
        }
        share.grow(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
}

/// What `Content-Encoding` says.
pub(crate) fn packing(headers: &HeaderMap) -> Result<Packing, Problem> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(Packing::Plain) };
    match encoding.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Packing::Plain),
        "gzip" | "x-gzip" => Ok(Packing::Gzip),
        other => {
            let detail =
                format!("content encoding `{other}` is not known here: send gzip, or nothing packed");
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
        }
    }
}

/// Why a body was not inflated.
#[derive(Debug)]
pub(crate) enum InflateError {
    /// It is broken.
    Broken(Refusal),
    /// It is too long, or there is no memory for it.
    Problem(Problem),
}

/// Inflates a body, counting while it grows.
pub(crate) fn inflate(packed: &[u8], most: u64, share: &mut Share) -> Result<Vec<u8>, InflateError> {
    let mut reader = MultiGzDecoder::new(packed);
    let mut inflated = Vec::new();
    loop {
        let before = inflated.len();
        let read = (&mut reader).take(CHUNK as u64).read_to_end(&mut inflated).map_err(|error| {
            let detail = format!("the body says that it is gzip, and cannot be inflated: {error}");
            InflateError::Broken(Refusal { code: Code::InvalidGzip, detail })
        })?;
        if read == 0 {
            return Ok(inflated);
        }
        if inflated.len() as u64 > most {
            return Err(InflateError::Problem(too_large(most, " once inflated")));
        }
        share.grow(inflated.len() - before).map_err(InflateError::Problem)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bomb_is_not_inflated_beyond_the_limit() {
        let memory = Memory::new(64 << 20);
        let bomb = pack(&vec![b' '; 32 << 20]);
        assert!(bomb.len() < 1 << 20);
        let mut share = memory.share();
        let Err(InflateError::Problem(problem)) = inflate(&bomb, 1 << 20, &mut share) else {
            panic!("inflated")
        };
        assert_eq!(problem.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(share.bytes <= (1 << 20) + CHUNK);
        drop(share);
        assert_eq!(memory.0.available_permits(), (64 << 20) / PAGE);
    }

    #[test]
    fn all_bodies_together_keep_to_their_memory() {
        let memory = Memory::new(1 << 20);
        let packed = pack(&vec![b' '; 600 << 10]);
        let mut first = memory.share();
        assert!(inflate(&packed, 8 << 20, &mut first).is_ok());
        let Err(InflateError::Problem(problem)) = inflate(&packed, 8 << 20, &mut memory.share()) else {
            panic!("there was memory for both")
        };
        assert_eq!(problem.status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn several_streams_in_a_row_are_one_body() {
        let packed = [pack(b"[1,"), pack(b"2]")].concat();
        assert_eq!(inflate(&packed, 100, &mut Memory::new(1 << 20).share()).unwrap(), b"[1,2]");
        let cut = &pack(b"[1,2]")[..12];
        assert!(matches!(inflate(cut, 100, &mut Memory::new(1 << 20).share()), Err(InflateError::Broken(_))));
    }
}
