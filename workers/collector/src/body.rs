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
    Compressed(Compression),
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

/// The largest window of a zstd frame, as a power of two: 8 MiB, which RFC 8878 recommends to support at least, and RFC 9659 to demand at most.
const ZSTD_WINDOW_LOG: u32 = 23;

/// The encoding according to `Content-Encoding`.
pub(crate) fn encoding(headers: &HeaderMap) -> Result<Encoding, Problem> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
    match encoding.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Encoding::Identity),
        "gzip" | "x-gzip" => Ok(Encoding::Compressed(Compression::Gzip)),
        "zstd" => Ok(Encoding::Compressed(Compression::Zstd)),
        other => {
            let detail = format!("content encoding `{other}` is not supported: use gzip, zstd or identity");
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
        }
    }
}

/// Why a body was not decompressed.
#[derive(Debug)]
pub(crate) enum InflateError {
    /// The compressed stream is invalid.
    Broken(Refusal),
    /// It exceeds the size or memory limit.
    Problem(Problem),
}

/// How much memory the decoder of a zstd frame needs, in bytes: its content, at most the window.
fn zstd_window(packed: &[u8]) -> usize {
    let content = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
    let content = content.and_then(|bytes| usize::try_from(bytes).ok());
    content.unwrap_or(usize::MAX).min(1 << ZSTD_WINDOW_LOG)
}

/// Decompresses a body, within limits.
pub(crate) fn inflate(
    compression: Compression,
    packed: &[u8],
    most: u64,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, InflateError> {
    let broken = |error: std::io::Error| {
        let (code, name) = match compression {
            Compression::Gzip => (Code::InvalidGzip, "gzip"),
            Compression::Zstd => (Code::InvalidZstd, "zstd"),
        };
        InflateError::Broken(Refusal { code, detail: format!("the body is not valid {name}: {error}") })
    };
    let mut reader: Box<dyn Read + '_> = match compression {
        Compression::Gzip => Box::new(MultiGzDecoder::new(packed)),
        Compression::Zstd => {
            reservation.grow(zstd_window(packed)).map_err(InflateError::Problem)?;
            let mut decoder = zstd::Decoder::with_buffer(packed).map_err(broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(broken)?;
            Box::new(decoder)
        }
    };
    let mut inflated = Vec::new();
    loop {
        let before = inflated.len();
        let read = (&mut reader).take(CHUNK as u64).read_to_end(&mut inflated).map_err(broken)?;
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
        let Err(InflateError::Problem(problem)) =
            inflate(Compression::Gzip, &bomb, 1 << 20, &mut reservation)
        else {
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
        assert!(inflate(Compression::Gzip, &packed, 8 << 20, &mut first).is_ok());
        let Err(InflateError::Problem(problem)) =
            inflate(Compression::Gzip, &packed, 8 << 20, &mut memory.reserve())
        else {
            panic!("the memory limit was exceeded")
        };
        assert_eq!(problem.status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn zstd_is_decompressed_within_the_same_limits() {
        let memory = Memory::new(64 << 20);
        let packed = zstd::encode_all(&br#"{"type":"view"}"#[..], 3).unwrap();
        let inflate_with =
            |packed: &[u8], most| inflate(Compression::Zstd, packed, most, &mut memory.reserve());
        assert_eq!(inflate_with(&packed, 1 << 20).unwrap(), br#"{"type":"view"}"#);
        let two = [packed.clone(), packed.clone()].concat();
        assert_eq!(inflate_with(&two, 1 << 20).unwrap().len(), 30, "several frames are one body");
        let bomb = zstd::encode_all(&vec![b' '; 32 << 20][..], 3).unwrap();
        assert!(bomb.len() < 1 << 20);
        let Err(InflateError::Problem(problem)) = inflate_with(&bomb, 1 << 20) else {
            panic!("decompressed")
        };
        assert_eq!(problem.status, StatusCode::PAYLOAD_TOO_LARGE);
        for wrong in [&packed[..packed.len() - 3], b"no zstd at all"] {
            assert!(matches!(inflate_with(wrong, 1 << 20), Err(InflateError::Broken(_))), "{wrong:?}");
        }
        // A frame of a larger window than 8 MiB would need that much memory whatever it contains.
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&vec![b' '; 20 << 20]).unwrap();
        let wide = encoder.finish().unwrap();
        assert!(matches!(inflate_with(&wide, 64 << 20), Err(InflateError::Broken(_))));
    }

    #[test]
    fn concatenated_gzip_streams_are_one_body() {
        let packed = [pack(b"[1,"), pack(b"2]")].concat();
        assert_eq!(
            inflate(Compression::Gzip, &packed, 100, &mut Memory::new(1 << 20).reserve()).unwrap(),
            b"[1,2]"
        );
        let cut = &pack(b"[1,2]")[..12];
        assert!(matches!(
            inflate(Compression::Gzip, cut, 100, &mut Memory::new(1 << 20).reserve()),
            Err(InflateError::Broken(_))
        ));
    }
}
