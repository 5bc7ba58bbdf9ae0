//! `pass`: each value in upper case, behind "processed-".

use dataflow::{Job, KafkaSink, KafkaSource};

pub(super) fn job(input: &str, output: &str) -> Job {
    let mut job = Job::new("pass");
    job.source(KafkaSource::string(input))
        .map(|value| format!("processed-{}", value.to_uppercase()))
        .sink(KafkaSink::string(output));
    job
}
