//! `pass`: each value in upper case, behind "processed-".

use dataflow::{Job, KafkaSink, KafkaSource};

use super::Topics;

pub(super) fn job(topics: Topics) -> Job {
    let mut job = Job::new("pass");
    topics
        .read(&mut job, KafkaSource::string(topics.input.as_str()))
        .map(|value| format!("processed-{}", value.to_uppercase()))
        .sink(KafkaSink::string(topics.output.as_str()));
    job
}
