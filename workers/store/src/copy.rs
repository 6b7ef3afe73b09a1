//! PostgreSQL's binary COPY format, as much of it as the tables need.
//! <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format".

use herd_spec::units::EventTime;

/// Before the first row: signature, no flags, no extension.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// After the last row.
pub(crate) const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// The epoch of PostgreSQL, 2000-01-01T00:00:00Z, in milliseconds since 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000;

/// Appends the fields of a row, in the order of the columns.
pub(crate) struct CopyRow<'a>(&'a mut Vec<u8>);

impl<'a> CopyRow<'a> {
    pub(crate) fn begin(out: &'a mut Vec<u8>, columns: i16) -> Self {
        out.extend_from_slice(&columns.to_be_bytes());
        Self(out)
    }

    fn length(&mut self, bytes: usize) {
        // Records, and therefore fields, are limited to a few megabytes.
        self.0.extend_from_slice(&i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes());
    }

    fn field(&mut self, value: &[u8]) -> &mut Self {
        self.length(value.len());
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        self.field(value.as_bytes())
    }

    pub(crate) fn text_or_null(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(text) => self.text(text),
            None => {
                self.0.extend_from_slice(&(-1_i32).to_be_bytes());
                self
            }
        }
    }

    /// `timestamptz`: microseconds since 2000. The caller has checked the range.
    pub(crate) fn time(&mut self, time: EventTime) -> &mut Self {
        self.int8(time.0.saturating_sub(POSTGRES_EPOCH).saturating_mul(1000))
    }

    /// `jsonb`: a version, then the text.
    pub(crate) fn jsonb(&mut self, text: &str) -> &mut Self {
        self.length(text.len() + 1);
        self.0.push(1);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub(crate) fn int4(&mut self, value: i32) -> &mut Self {
        self.field(&value.to_be_bytes())
    }

    pub(crate) fn int8(&mut self, value: i64) -> &mut Self {
        self.field(&value.to_be_bytes())
    }

    pub(crate) fn float8(&mut self, value: f64) -> &mut Self {
        self.field(&value.to_be_bytes())
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut Self {
        self.field(&[u8::from(value)])
    }
}
