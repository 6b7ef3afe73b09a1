//! Reading and decompressing request bodies, with limits of size, time and memory.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use flate2::read::MultiGzDecoder;
use herd_spec::pipeline::LimitsSpec;
use herd_stage::Problem;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::intake::{Code, Refusal};

/// Granularity of the memory limit, in bytes.
const PAGE: usize = 4096;
/// Number of bytes decompressed per step.
const CHUNK: usize = 64 << 10;

/// Memory limit of all bodies together.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<Semaphore>);

/// Memory reserved for one body; released on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    memory: Memory,
    taken: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Memory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / PAGE)))
    }

    pub(crate) fn reserve(&self) -> Reservation {
        Reservation { memory: self.clone(), taken: None, bytes: 0 }
    }
}

impl Reservation {
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
            return Err(Problem::busy("too many large requests at the same time: try again later").closing());
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

/// Reads a body, without decompressing it.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: &LimitsSpec,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, Problem> {
    let most = limits.body_bytes;
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most) {
        return Err(too_large(most, "").closing());
    }
    let slow = |limit: Duration| {
        let detail = format!("the body was not received within {limit:?}");
        Problem::new(StatusCode::REQUEST_TIMEOUT, detail).closing()
    };
    let within = limits.body_timeout.0;
    tokio::time::timeout(within, collect(body, announced, most, reservation))
        .await
        .map_err(|_| slow(within))?
}

async fn collect(
    mut body: Body,
    announced: Option<u64>,
    most: u64,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, Problem> {
    // Memory is reserved as data arrives, not by the announced length.
    let expected = usize::try_from(announced.unwrap_or(0)).unwrap_or(0).min(CHUNK);
    let mut bytes = Vec::with_capacity(expected);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, format!("the body is incomplete: {error}")).closing()
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() as u64 + data.len() as u64 > most {
            return Err(too_large(most, "").closing());
        }
        reservation.grow(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Content encoding of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
}

/// The encoding according to `Content-Encoding`.
pub(crate) fn encoding(headers: &HeaderMap) -> Result<Encoding, Problem> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
    match encoding.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Encoding::Identity),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        other => {
            let detail = format!("content encoding `{other}` is not supported: use gzip or identity");
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
        }
    }
}

/// Why a body was not decompressed.
#[derive(Debug)]
pub(crate) enum InflateError {
    /// The gzip stream is invalid.
    Broken(Refusal),
    /// It exceeds the size or memory limit.
    Problem(Problem),
}

/// Decompresses a body, within limits.
pub(crate) fn inflate(
    packed: &[u8],
    most: u64,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, InflateError> {
    let mut reader = MultiGzDecoder::new(packed);
    let mut inflated = Vec::new();
    loop {
        let before = inflated.len();
        let read = (&mut reader).take(CHUNK as u64).read_to_end(&mut inflated).map_err(|error| {
            let detail = format!("the body is not valid gzip: {error}");
            InflateError::Broken(Refusal { code: Code::InvalidGzip, detail })
        })?;
        if read == 0 {
            return Ok(inflated);
        }
        if inflated.len() as u64 > most {
            return Err(InflateError::Problem(too_large(most, " after decompression")));
        }
        reservation.grow(inflated.len() - before).map_err(InflateError::Problem)?;
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
    fn decompression_stops_at_the_limit() {
        let memory = Memory::new(64 << 20);
        let bomb = pack(&vec![b' '; 32 << 20]);
        assert!(bomb.len() < 1 << 20);
        let mut reservation = memory.reserve();
        let Err(InflateError::Problem(problem)) = inflate(&bomb, 1 << 20, &mut reservation) else {
            panic!("decompressed")
        };
        assert_eq!(problem.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(reservation.bytes <= (1 << 20) + CHUNK);
        drop(reservation);
        assert_eq!(memory.0.available_permits(), (64 << 20) / PAGE);
    }

    #[test]
    fn all_bodies_share_one_memory_limit() {
        let memory = Memory::new(1 << 20);
        let packed = pack(&vec![b' '; 600 << 10]);
        let mut first = memory.reserve();
        assert!(inflate(&packed, 8 << 20, &mut first).is_ok());
        let Err(InflateError::Problem(problem)) = inflate(&packed, 8 << 20, &mut memory.reserve()) else {
            panic!("the memory limit was exceeded")
        };
        assert_eq!(problem.status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn concatenated_gzip_streams_are_one_body() {
        let packed = [pack(b"[1,"), pack(b"2]")].concat();
        assert_eq!(inflate(&packed, 100, &mut Memory::new(1 << 20).reserve()).unwrap(), b"[1,2]");
        let cut = &pack(b"[1,2]")[..12];
        assert!(matches!(
            inflate(cut, 100, &mut Memory::new(1 << 20).reserve()),
            Err(InflateError::Broken(_))
        ));
    }
}
