//! `clicks` killed at each step of a commit and of a start, on any cluster.

use std::path::Path;

use dataflow::testing::TestClient;

use crate::clicks::{Click, clicks, judge, oracle};
use crate::jobs::Child;

/// What SIGKILL leaves behind.
const KILLED: Option<i32> = Some(137);

/// Places in the order in which a run comes by. The first time is that of the start manifest, where it has one.
const PLACES: &[&str] = &[
    "fenced",
    "state-durable",
    "manifest-sent",
    "commit-sent",
    "committed",
    "started",
    "outputs-sent",
    "outputs-sent:2",
    "state-durable:2",
    "state-durable:3",
    "manifest-sent:3",
    "commit-sent:2",
    "commit-sent:3",
    "committed:2",
    "committed:3",
];

/// Writes clicks to a topic, each under its user.
///
/// # Panics
/// When a record is not acknowledged.
pub fn write(client: &TestClient, topic: &str, clicks: &[Click]) {
    client.write(topic, clicks.iter().map(|click| (&click.user, click.json()))).unwrap();
}

/// Holds what is committed against the oracle.
///
/// # Panics
/// With what is lost, doubled or wrong.
pub fn check(client: &TestClient, output: &str, clicks: &[Click]) {
    let committed = client.read_committed(output).unwrap();
    if let Err(faults) = judge(&oracle(clicks), committed.iter().map(Vec::as_slice)) {
        panic!("{output}: {faults}");
    }
}

/// A child that reads `clicks` to its end.
pub fn bounded<'a>(bootstrap: &'a str, output: &'a str, folder: &'a Path) -> Child<'a> {
    Child {
        bootstrap,
        input: "clicks",
        output,
        folder,
        workers: 1,
        bounded: true,
        epoch_records: 2_000,
        crash_at: None,
    }
}

/// Kills a child at each place, and lets another with other workers go on. `test` is what the children run.
///
/// # Panics
/// When a child does not die where it should, or what is committed at the end is not right.
pub fn everywhere(bootstrap: &str, test: &str) {
    let client = TestClient::new(bootstrap).unwrap();
    let clicks: Vec<Click> = clicks(11, 50, 20).take(12_000).collect();
    client.create("clicks", 3).unwrap();
    write(&client, "clicks", &clicks);
    for (index, place) in PLACES.iter().enumerate() {
        let output = format!("killed-{}", place.replace(':', "-"));
        client.create(&output, 2).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let job = bounded(bootstrap, &output, folder.path());
        let doomed = Child { crash_at: Some(place), workers: 1 + index % 3, ..job.clone() };
        assert_eq!(doomed.run(test), KILLED, "{place}: {}", doomed.log());
        let next = Child { workers: 1 + (index + 1) % 3, ..job.clone() };
        assert_eq!(next.run(test), Some(0), "{place}: {}", next.log());
        check(&client, &output, &clicks);
        assert_eq!(next.run(test), Some(0), "a finished job has nothing left to do: {}", next.log());
        check(&client, &output, &clicks);
    }
}
