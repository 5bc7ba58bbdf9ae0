//! Exactly-once stream processing on timely dataflow.
