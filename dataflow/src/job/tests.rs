//! Whole jobs on the in-memory log.

mod simulation;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::commit::MemoryStore;
use crate::memory::MemoryLog;
use crate::{Count, MemorySink, MemorySource, Outcome, Tumbling};

#[test]
fn a_bounded_window_job_gives_every_window_once_on_any_number_of_workers() {
    for workers in [1, 2, 3] {
        let log = MemoryLog::new();
        log.create_topic("in", 4);
        log.create_topic("out", 3);
        let mut expected: BTreeMap<(u64, i64), u64> = BTreeMap::new();
        for i in 0..20_000i64 {
            let (user, time_ms) = (i as u64 * 7 % 100, i * 3 - i % 5);
            log.append("in", (i % 4) as usize, time_ms, &user).unwrap();
            *expected.entry((user, time_ms.div_euclid(1_000) * 1_000)).or_default() += 1;
        }
        let mut job = Job::new("count");
        job.source(MemorySource::<u64>::new(&log, "in").bounded_disorder(Duration::from_millis(10)))
            .key_by(|user| *user)
            .window(Tumbling::of(Duration::from_secs(1)))
            .aggregate(Count)
            .map(|window| (window.key, window.start_ms, window.value))
            .sink(MemorySink::new(&log, "out"));
        job.commit_to(MemoryStore::new(&log));
        let outcome = job.run(Settings { workers, bounded: true, ..Settings::default() }).unwrap();
        assert!(matches!(outcome, Outcome::Finished { .. }));
        let mut found = BTreeMap::new();
        for (_, (user, start_ms, count)) in log.read::<(u64, i64, u64)>("out").unwrap().concat() {
            assert_eq!(found.insert((user, start_ms), count), None);
        }
        assert_eq!(found, expected, "{workers} workers");
    }
}
