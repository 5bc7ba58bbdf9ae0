//! The house rules as tests: which way imports point, where effects may live, how big a file may be, what
//! must exist. A rule that is wrong is changed here, with its reason.

use std::path::{Path, PathBuf};

/// Layers of `kafka-wire/src`, lowest first; a module imports only from lower rows (its own name excepted).
const CLIENT_LAYERS: &[&[&str]] = &[
    &["types", "error_code"],
    &["error", "metrics", "time"],
    &["reply"],
    &["protocol"],
    &["record", "security"],
    &["config"],
    &["connection", "cluster"],
    &["engine"],
    &["group", "txn"],
    &["producer", "consumer", "admin", "share"],
    &["net"],
    &["schema"],
    &["guide"],
];

/// Layers of `dataflow/src`.
const DATAFLOW_LAYERS: &[&[&str]] = &[
    &["decimal", "error"],
    &["config", "metrics", "time", "format", "memory"],
    &["state"],
    &["checkpoint"],
    &["engine"],
    &["window", "commit"],
    // A source or sink names the commit store that its outside has.
    &["source", "sink"],
    &["stream"],
    &["job"],
    &["testing"],
];

/// A word that may stand only in some files: (word, where it is searched, where it is allowed, why).
const CONFINED: &[(&str, &[&str], &[&str], &str)] = &[
    (
        "kafka_protocol",
        &["kafka-wire/src", "kafka-wire/broker/src", "dataflow/src", "bins/src"],
        &["kafka-wire/src/protocol/messages.rs"],
        "its API breaks often",
    ),
    (
        "tokio",
        &["kafka-wire/src"],
        &["kafka-wire/src/net", "kafka-wire/src/schema/transport"],
        "the core is sans-IO",
    ),
    ("tokio", &["kafka-wire/broker/src"], &["kafka-wire/broker/src/listen"], "the core is sans-IO"),
    ("tokio", &["dataflow/src"], &["dataflow/src/engine/bridge"], "one seam between tokio and timely"),
    ("Instant::now", &["kafka-wire/src"], &["kafka-wire/src/net"], "time is an argument"),
    ("Instant::now", &["kafka-wire/broker/src"], &["kafka-wire/broker/src/listen"], "time is an argument"),
    ("SystemTime::now", &["kafka-wire/src"], &["kafka-wire/src/net"], "time is an argument"),
    ("SystemTime::now", &["kafka-wire/broker/src"], &["kafka-wire/broker/src/listen"], "time is an argument"),
    (
        "kafka_wire",
        &["dataflow/src"],
        &[
            "dataflow/src/source/kafka",
            "dataflow/src/sink/kafka",
            "dataflow/src/commit/kafka",
            "dataflow/src/config",
            "dataflow/src/testing",
        ],
        "the engine knows no Kafka",
    ),
];

/// Leftovers that no file outside of this one may hold.
const BANNED: &[&str] = &["todo!(", "unimplemented!(", "TODO", "FIXME"];

const MAXIMUM_LINES: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn sources() -> Vec<(String, String)> {
    let root = root();
    ["kafka-wire", "dataflow", "bins", "tests", "fuzz", "benches"]
        .iter()
        .flat_map(|folder| rust_files(&root.join(folder)))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a source file");
            (path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned(), text)
        })
        .collect()
}

/// A module's tests in a file of their own.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn fail_if_any(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

#[test]
fn no_file_is_longer_than_a_reader_bears() {
    let faults: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| !text.contains("@generated"))
        .filter(|(_, text)| text.lines().count() > MAXIMUM_LINES)
        .map(|(path, text)| format!("{path}: {} lines", text.lines().count()))
        .collect();
    fail_if_any("split these by concept (at most 800 lines)", &faults);
}

#[test]
fn imports_point_to_lower_layers() {
    let mut faults = Vec::new();
    for (folder, layers) in [("kafka-wire/src/", CLIENT_LAYERS), ("dataflow/src/", DATAFLOW_LAYERS)] {
        for (path, text) in sources() {
            let Some(inside) = path.strip_prefix(folder) else { continue };
            let module = inside.split(['/', '.']).next().unwrap_or_default();
            if module == "lib" {
                continue;
            }
            let Some(own) = layer_of(layers, module) else {
                faults.push(format!("{path}: module `{module}` has no layer in tests/tidy.rs"));
                continue;
            };
            for (number, line) in code_before_tests(&text) {
                for used in used_modules(line) {
                    if used != module && layer_of(layers, used).is_some_and(|layer| layer >= own) {
                        faults.push(format!(
                            "{path}:{number}: `{module}` imports `{used}`, which is not below it"
                        ));
                    }
                }
            }
        }
    }
    fail_if_any("imports point only to a lower layer", &faults);
}

fn layer_of(layers: &[&[&str]], module: &str) -> Option<usize> {
    layers.iter().position(|layer| layer.contains(&module))
}

fn code_before_tests(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !is_comment(line))
}

fn used_modules(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").filter_map(|(at, _)| {
        let rest = &line[at + "crate::".len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        (end > 0).then(|| &rest[..end])
    })
}

#[test]
fn effects_stay_in_their_rooms() {
    let mut faults = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| !is_test(path)) {
        for (word, searched, allowed, why) in CONFINED {
            let applies = searched.iter().any(|folder| path.starts_with(folder));
            if !applies || allowed.iter().any(|place| path.starts_with(place)) {
                continue;
            }
            for (number, line) in code_before_tests(&text).filter(|(_, line)| line.contains(word)) {
                faults.push(format!("{path}:{number}: `{word}` ({why}): {}", line.trim()));
            }
        }
    }
    fail_if_any("these words may stand only where tests/tidy.rs says", &faults);
}

#[test]
fn nothing_is_left_to_do() {
    let mut faults = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| path != "tests/tidy.rs") {
        for (number, line) in text.lines().enumerate() {
            if BANNED.iter().any(|word| line.contains(word)) {
                faults.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    fail_if_any("finish these or delete them", &faults);
}

#[test]
fn the_static_binary_compiles_no_c() {
    let tree = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "tidewater", "--edges", "normal,build", "--prefix", "none"])
        .args(["--target", "x86_64-unknown-linux-musl", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("run cargo tree");
    assert!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    assert!(tree.contains("timely "), "cargo tree shows no dependency:\n{tree}");
    let faults: Vec<String> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| {
            ["cc", "cmake", "bindgen", "ring", "aws-lc-rs"].contains(name)
                || name.ends_with("-sys") && *name != "linux-raw-sys"
        })
        .map(str::to_owned)
        .collect();
    fail_if_any("these crates compile or link C", &faults);
}

#[test]
fn the_documents_are_there_and_name_the_test_command() {
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"]
    {
        assert!(root().join(name).is_file(), "{name} is missing");
    }
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let ci = std::fs::read_to_string(root().join(".ci/run")).expect(".ci/run");
    for (command, text) in [
        ("cargo run --release -- demo", &readme),
        ("cargo test --workspace", &readme),
        ("cargo test --workspace", &ci),
    ] {
        assert!(text.contains(command), "`{command}` is not there");
    }
}

/// Whoever looks for the test of a complaint in that table is to find it.
#[test]
fn the_tests_that_the_table_names_are_there() {
    let table = std::fs::read_to_string(root().join("tests/README.md")).expect("tests/README.md");
    let sources = sources();
    let code = table.split('`').skip(1).step_by(2);
    let words = code
        .flat_map(|code| code.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')));
    // Shorter words are modules, files and commands.
    let names: Vec<&str> = words.filter(|word| word.matches('_').count() >= 3).collect();
    assert!(names.len() > 40, "the table has {} names", names.len());
    let is_missing = |name: &&str| !sources.iter().any(|(_, text)| text.contains(&format!("fn {name}")));
    let faults: Vec<String> = names.into_iter().filter(is_missing).map(str::to_owned).collect();
    fail_if_any("tests/README.md names tests that are not there", &faults);
}
