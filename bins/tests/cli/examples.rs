//! The examples, as their readers run them.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::harness::{Cluster, Run, run_command};

/// The folder of the built examples. A test of one target builds no others: cargo is asked to.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_tidewater"));
        let folder = binary.parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "tidewater", "--examples"]);
        if folder.file_name().is_some_and(|profile| profile == "release") {
            cargo.arg("--release");
        }
        assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
        folder.join("examples")
    })
}

fn example(name: &str, argument: &str) -> Run {
    let mut command = Command::new(folder().join(name));
    command.arg(argument);
    run_command(command, "")
}

#[test]
fn j1_tells_topic_and_offset_of_each_record() {
    let cluster = Cluster::with_topics(&[("test", 1)]);
    let expected: String = (0..100).map(|offset| format!("test {offset}\n")).collect();
    assert_eq!(example("j1_producer", &cluster.bootstrap).ok(), expected);
    let mut written: Vec<_> = (0..100).map(|i| format!("{i}=value{i}")).collect();
    written.sort();
    assert_eq!(cluster.read("test", "%k=%v"), written);
}

#[test]
fn j6_passes_on_what_comes_after_its_start() {
    let cluster = Cluster::with_topics(&[("input", 2), ("output", 1)]);
    cluster.run(&["produce", "input"], "too early\n").ok();
    let mut command = Command::new(folder().join("j6_source_sink"));
    let mut child = command.args([&cluster.bootstrap, "3"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "reading\n");
    cluster.run(&["produce", "input"], "a\nb\nc\n").ok();
    assert!(child.wait().unwrap().success());
    assert_eq!(cluster.read("output", "%v"), ["a", "b", "c"]);
}

#[test]
fn j2_reads_as_a_member_of_a_group_and_goes_on_where_it_was() {
    let cluster = Cluster::with_topics(&[("test-topic", 1)]);
    cluster.run(&["produce", "test-topic", "-K", "="], "a=1\nb=2\n").ok();
    let read = |count: &str| {
        let mut command = Command::new(folder().join("j2_consumer"));
        command.args([&cluster.bootstrap, count]);
        run_command(command, "").ok()
    };
    assert_eq!(read("2"), "key=a value=1 partition=0 offset=0\nkey=b value=2 partition=0 offset=1\n");
    cluster.run(&["produce", "test-topic"], "3\n").ok();
    assert_eq!(read("1"), "key=null value=3 partition=0 offset=2\n");
}

#[test]
fn j3_prints_the_running_sum() {
    let cluster = Cluster::with_topics(&[("rows", 1), ("sums", 1)]);
    cluster.run(&["produce", "rows"], "51,1\n50,100\n70,2\n7,100\n99,-5\n").ok();
    assert_eq!(example("j3_running_sum", &cluster.bootstrap).ok(), "1\n3\n-2\n");
    assert_eq!(cluster.ok(&["consume", "sums", "-e"]), "1\n3\n-2\n");
}

#[test]
fn j4_prints_the_numbers_over_fifty() {
    let cluster = Cluster::with_topics(&[("lines", 1), ("processed-numbers", 1)]);
    cluster.run(&["produce", "lines"], "1,51,x, 60\n50\n\n99,100\n").ok();
    let expected = "Processed: 51\nProcessed: 60\nProcessed: 99\nProcessed: 100\n";
    assert_eq!(example("j4_split", &cluster.bootstrap).ok(), expected);
    assert_eq!(cluster.ok(&["consume", "processed-numbers", "-e"]), expected);
}

#[test]
fn j5_writes_three_topics() {
    let topics = [("my-topic", 2), ("result", 1), ("prefixed", 1), ("output-topic", 2)];
    let cluster = Cluster::with_topics(&topics);
    cluster.run(&["produce", "my-topic", "-p", "0"], "a\n").ok();
    cluster.run(&["produce", "my-topic", "-p", "1"], "straße\n").ok();
    example("j5_topic_to_topic", &cluster.bootstrap).ok();
    assert_eq!(cluster.read("result", "%v"), ["Processed: a", "Processed: straße"]);
    assert_eq!(cluster.read("prefixed", "%v"), ["processed-a", "processed-straße"]);
    assert_eq!(cluster.read("output-topic", "%v"), ["A", "STRASSE"]);
}

#[test]
fn j7_does_what_its_file_says() {
    let cluster = Cluster::with_topics(&[("words", 2), ("loud", 1)]);
    cluster.run(&["produce", "words"], "a\nb\n").ok();
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "bootstrap.servers={}\ncompression.type=lz4\ngroup.id=shouting\ninput.topic=words\n\
         output.topic=loud\nparallelism=2\n",
        cluster.bootstrap
    );
    std::fs::write(file.path(), text).unwrap();
    example("j7_properties", file.path().to_str().unwrap()).ok();
    assert_eq!(cluster.read("loud", "%v"), ["A", "B"]);
    std::fs::write(file.path(), "bootstrap.server=x:1\n").unwrap();
    let failed = example("j7_properties", file.path().to_str().unwrap());
    assert!(
        failed.code == Some(1) && failed.stderr.contains("did you mean bootstrap.servers?"),
        "{failed:?}"
    );
}

#[test]
fn j8_filters_writes_and_stops_and_does_nothing_twice() {
    let cluster = Cluster::with_topics(&[("events", 2), ("errors", 1)]);
    cluster.run(&["produce", "events"], "ERROR a\nINFO b\nERROR c\n").ok();
    let first = example("j8_bounded", &cluster.bootstrap).ok();
    assert!(first.starts_with("finished at epoch "), "{first}");
    assert_eq!(cluster.read("errors", "%v"), ["ERROR a", "ERROR c"]);
    assert_eq!(example("j8_bounded", &cluster.bootstrap).ok(), first);
    assert_eq!(cluster.read("errors", "%v").len(), 2);
}
