//! `pass`: each value in upper case, behind "processed-".

use dataflow::{Job, KafkaSink, KafkaSource};

use super::Topics;

pub(super) fn job(topics: Topics) -> Job {
    let mut job = Job::new("pass");
    job.source(KafkaSource::string(topics.input).poison(topics.poison))
        .map(|value| format!("processed-{}", value.to_uppercase()))
        .sink(KafkaSink::string(topics.output));
    job
}
