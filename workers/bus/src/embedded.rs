//! Durable logs in this process.
