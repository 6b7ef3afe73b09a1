//! Which partition a key goes to: murmur2, as Kafka's Java client and librdkafka's `murmur2_random`.
