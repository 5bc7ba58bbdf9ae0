//! Figures as OpenTelemetry's `MetricsData` (version 1), in protobuf's wire form.

use bytes::{BufMut as _, BytesMut};

/// One figure, named as brokers know it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) kind: Kind,
    pub(super) value: f64,
    /// In nanoseconds since 1970; 0 when not known.
    pub(super) start_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    /// What has been added since the last time.
    Delta,
    /// What has been added since the start.
    Cumulative,
}

/// The whole message; `resource` are attributes of the client as a whole.
pub(super) fn encode(points: &[Point], resource: &[(&str, &str)], time_ns: u64) -> BytesMut {
    let mut metrics = BytesMut::new();
    for point in points {
        put_message(&mut metrics, 2, &metric(point, time_ns));
    }
    let mut attributes = BytesMut::new();
    for (key, value) in resource {
        put_message(&mut attributes, 1, &attribute(key, value));
    }
    let mut of_resource = BytesMut::new();
    put_message(&mut of_resource, 1, &attributes);
    put_message(&mut of_resource, 2, &metrics);
    let mut data = BytesMut::new();
    put_message(&mut data, 1, &of_resource);
    data
}

/// `Metric`: name 1, gauge 5 or sum 7.
fn metric(point: &Point, time_ns: u64) -> BytesMut {
    let mut data = BytesMut::new();
    put_message(&mut data, 1, &number(point, time_ns));
    if point.kind != Kind::Gauge {
        // Aggregation temporality: 1 delta, 2 cumulative; then: it only grows.
        put_key(&mut data, 2, 0);
        put_varint(&mut data, if point.kind == Kind::Delta { 1 } else { 2 });
        put_key(&mut data, 3, 0);
        put_varint(&mut data, 1);
    }
    let mut metric = BytesMut::new();
    put_message(&mut metric, 1, point.name.as_bytes());
    put_message(&mut metric, if point.kind == Kind::Gauge { 5 } else { 7 }, &data);
    metric
}

/// `NumberDataPoint`: start 2, time 3, double 4, attributes 7.
fn number(point: &Point, time_ns: u64) -> BytesMut {
    let mut number = BytesMut::new();
    for (field, value) in [(2, point.start_ns), (3, time_ns), (4, point.value.to_bits())] {
        put_key(&mut number, field, 1);
        number.put_u64_le(value);
    }
    for (key, value) in &point.labels {
        put_message(&mut number, 7, &attribute(key, value));
    }
    number
}

/// `KeyValue` with an `AnyValue` of a string.
fn attribute(key: &str, value: &str) -> BytesMut {
    let mut any = BytesMut::new();
    put_message(&mut any, 1, value.as_bytes());
    let mut attribute = BytesMut::new();
    put_message(&mut attribute, 1, key.as_bytes());
    put_message(&mut attribute, 2, &any);
    attribute
}

fn put_message(into: &mut BytesMut, field: u64, bytes: &[u8]) {
    put_key(into, field, 2);
    put_varint(into, bytes.len() as u64);
    into.put_slice(bytes);
}

fn put_key(into: &mut BytesMut, field: u64, wire_type: u64) {
    put_varint(into, field << 3 | wire_type);
}

fn put_varint(into: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        into.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    into.put_u8(value as u8);
}
