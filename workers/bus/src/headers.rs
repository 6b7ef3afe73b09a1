//! The headers of a record, whoever holds them.

/// The headers of a record.
#[derive(Clone, Copy)]
pub struct Headers<'a>(Held<'a>);

#[derive(Clone, Copy)]
enum Held<'a> {
    #[cfg(feature = "kafka")]
    Kafka(&'a rdkafka::message::BorrowedHeaders),
    List(&'a [(String, Vec<u8>)]),
}

impl std::fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl Headers<'_> {
    /// No headers.
    pub const NONE: Headers<'static> = Headers(Held::List(&[]));
}

impl<'a> Headers<'a> {
    /// These names and values.
    #[must_use]
    pub fn of(list: &'a [(String, Vec<u8>)]) -> Self {
        Self(Held::List(list))
    }

    /// As librdkafka holds them.
    #[cfg(feature = "kafka")]
    pub(crate) fn kafka(headers: &'a rdkafka::message::BorrowedHeaders) -> Self {
        Self(Held::Kafka(headers))
    }

    /// Each header's name and value, in order.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let count = match self.0 {
            #[cfg(feature = "kafka")]
            Held::Kafka(headers) => rdkafka::message::Headers::count(headers),
            Held::List(list) => list.len(),
        };
        (0..count).map(move |index| match self.0 {
            #[cfg(feature = "kafka")]
            Held::Kafka(headers) => {
                let header = rdkafka::message::Headers::get(headers, index);
                (header.key, header.value.unwrap_or_default())
            }
            Held::List(list) => (list[index].0.as_str(), list[index].1.as_slice()),
        })
    }
}
