//! Figures, spans and logs.
//!
//! # Figures
//!
//! With the feature `metrics` (a default) every client publishes once a second, through the
//! facade of the crate `metrics`, what Java's clients show by JMX, under Java's names: install a recorder,
//! such as that of `metrics-exporter-prometheus`, before the first client is made. Java's
//! `kafka.producer:type=producer-metrics,client-id=x` with `record-send-total` is
//! `kafka.producer-metrics.record-send-total` with the label `client-id`.
//!
//! | to know | look at |
//! |---|---|
//! | written per second | `kafka.producer-metrics.record-send-rate`, `byte-rate` |
//! | failed, repeated | `kafka.producer-metrics.record-error-total`, `record-retry-total` |
//! | how full batches are, how long they wait | `kafka.producer-metrics.batch-size-avg`, `record-queue-time-avg` |
//! | read per second | `kafka.consumer-fetch-manager-metrics.records-consumed-rate`, `bytes-consumed-rate` |
//! | how far behind | `kafka.consumer-fetch-manager-metrics.records-lag` by partition, `records-lag-max` |
//! | time to an answer, by broker | `kafka.producer-node-metrics.request-latency-avg`, likewise of consumers |
//! | connections | `kafka.producer-metrics.connection-count`, `connection-creation-total` |
//!
//! For each `-total` there is a `-rate`; [`crate::metrics`] says more. Brokers that collect their clients' figures get them
//! (KIP-714; `enable.metrics.push=false` turns it off).
//!
//! # Spans and logs
//!
//! Both go through the crate `tracing` under the target `kafka_wire`. Spans, at `debug`: `request`
//! (api, version, bytes) from a request's sending to its answer, `produce_batch` (partition, records, bytes) from a
//! batch's sealing to its acknowledgement, `fetched_batch` (partition, offsets) while the application holds a batch.
//! There is none per record. Below `debug` they cost nothing.
//!
//! `warn` is for what somebody should look at: a property without effect, records lost by a broker, files of
//! certificates that cannot be used, a member that was too slow. What is retried is told at `debug`; what is not comes
//! back as an error, and is not logged as well.
