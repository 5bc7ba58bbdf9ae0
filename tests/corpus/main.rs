//! The fuzz targets on their corpora, and on damaged vectors: what a fuzzer has found stays fixed, on
//! stable Rust.

#[path = "../../fuzz/src/decompress.rs"]
mod decompress;
#[path = "../../fuzz/src/frame.rs"]
mod frame;
#[path = "../../fuzz/src/group_bytes.rs"]
mod group_bytes;
#[path = "../../fuzz/src/messages.rs"]
mod messages;
#[path = "../../fuzz/src/record_batch.rs"]
mod record_batch;
#[path = "../../fuzz/src/sasl.rs"]
mod sasl;

use std::fs;
use std::path::Path;

/// Runs `target` on each file of its corpus, and on each of its prefixes.
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let mut inputs = 0;
    for entry in fs::read_dir(folder).expect("the corpus") {
        let input = fs::read(entry.expect("an entry").path()).expect("an input");
        for end in 0..=input.len() {
            target(&input[..end]);
        }
        inputs += 1;
    }
    assert!(inputs > 0, "the corpus of {name} is empty");
}

#[test]
fn decompress() {
    replay("decompress", decompress::run);
}

#[test]
fn frame() {
    replay("frame", frame::run);
}

#[test]
fn group_bytes() {
    replay("group_bytes", group_bytes::run);
}

#[test]
fn messages() {
    replay("messages", messages::run);
}

#[test]
fn record_batch() {
    replay("record_batch", record_batch::run);
}

#[test]
fn sasl() {
    replay("sasl", sasl::run);
}
