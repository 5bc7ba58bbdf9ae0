//! What is sent: one record, borrowed from the caller.

use crate::record::Header;

/// A record on its way to a topic. Everything is borrowed: sending copies it once, into its batch.
///
/// ```
/// use kafka_wire::Record;
/// let record = Record::to("orders").key("42").value(r#"{"amount": 7}"#);
/// assert_eq!(record.topic, "orders");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The partition; by default the key's, or without a key one of the producer's choice.
    pub partition: Option<i32>,
    /// Milliseconds since 1970; by default the time of the send, to within 10 ms.
    pub timestamp_ms: Option<i64>,
    /// The key, where there is one: equal keys go to equal partitions, as with every other Kafka client.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Headers, in order; keys may repeat.
    pub headers: &'a [Header<'a>],
}

impl<'a> Record<'a> {
    /// A record without key and value for `topic`.
    pub fn to(topic: &'a str) -> Self {
        Self { topic, partition: None, timestamp_ms: None, key: None, value: None, headers: &[] }
    }

    /// Sets the partition.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp, in milliseconds since 1970.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Sets the value.
    #[must_use]
    pub fn value(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// Sets the headers.
    #[must_use]
    pub fn headers(mut self, headers: &'a [Header<'a>]) -> Self {
        self.headers = headers;
        self
    }

    /// The most bytes it can take in a batch: every length in its longest form.
    pub(crate) fn size_max(&self) -> usize {
        // Length 5, attributes 1, timestamp delta 10, offset delta 5, key length 5, value length 5, header
        // count 5; each header two lengths.
        let headers: usize = self
            .headers
            .iter()
            .map(|header| 10 + header.key.len() + header.value.map_or(0, <[u8]>::len))
            .sum();
        36 + self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }
}

/// A record that owns its bytes: to keep, or for an interceptor to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedRecord {
    /// See [`Record::topic`].
    pub topic: String,
    /// See [`Record::partition`].
    pub partition: Option<i32>,
    /// See [`Record::timestamp_ms`].
    pub timestamp_ms: Option<i64>,
    /// See [`Record::key`].
    pub key: Option<Vec<u8>>,
    /// See [`Record::value`].
    pub value: Option<Vec<u8>>,
    /// Keys and values of headers, in order; keys may repeat.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    /// Its headers as a [`Record`] wants them.
    pub fn headers(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect()
    }

    /// The record to send, with `headers` as [`headers`](Self::headers) made them.
    pub fn to_record<'a>(&'a self, headers: &'a [Header<'a>]) -> Record<'a> {
        Record {
            topic: &self.topic,
            partition: self.partition,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
        }
    }
}

impl From<&Record<'_>> for OwnedRecord {
    fn from(record: &Record<'_>) -> Self {
        let owned = |header: &Header<'_>| (header.key.to_vec(), header.value.map(<[u8]>::to_vec));
        Self {
            topic: record.topic.to_owned(),
            partition: record.partition,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(owned).collect(),
        }
    }
}
