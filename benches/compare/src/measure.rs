//! One run of one program: what it printed, what it cost.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What all measurements share.
pub struct Bench {
    pub bootstrap: String,
    pub tidewater: PathBuf,
}

/// What a run cost.
pub struct Cost {
    /// User and system.
    pub cpu_s: f64,
    pub peak_mib: f64,
    /// What it printed last.
    pub last_line: String,
}

impl Bench {
    pub fn new(bootstrap: &str, tidewater: &Path) -> Self {
        Self { bootstrap: bootstrap.to_owned(), tidewater: tidewater.to_owned() }
    }

    /// A peer's program, built beside this one.
    pub fn peer(&self, name: &str) -> PathBuf {
        let own = std::env::current_exe().expect("path of this program");
        own.with_file_name(name)
    }

    /// Runs a program to its end and measures it as a whole.
    ///
    /// # Panics
    /// When it fails: a table with a hole would mislead.
    pub fn run<A: AsRef<OsStr>>(&self, program: &Path, arguments: &[A]) -> Cost {
        let report = tempfile::NamedTempFile::new().expect("a temporary file");
        let output = Command::new("/usr/bin/time")
            .args(["-f", "%U %S %M", "-o"])
            .arg(report.path())
            .arg(program)
            .args(arguments)
            .env("BROKERS", &self.bootstrap)
            .stderr(Stdio::inherit())
            .output()
            .expect("run /usr/bin/time");
        assert!(output.status.success(), "{} failed: {}", program.display(), output.status);
        let report = std::fs::read_to_string(report.path()).expect("the report of time");
        let figures: Vec<f64> = report.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
        let [user_s, system_s, peak_kib] = figures[..] else { panic!("time printed {report:?}") };
        let printed = String::from_utf8_lossy(&output.stdout);
        let last_line = printed.lines().last().unwrap_or_default().to_owned();
        Cost { cpu_s: user_s + system_s, peak_mib: peak_kib / 1024.0, last_line }
    }

    /// Creates a topic of four partitions, or leaves it as it is.
    pub fn create_topic(&self, topic: &str) {
        let partitions = ["topic", "create", topic, "--partitions", "4", "--if-not-exists"];
        self.run(&self.tidewater, &[&partitions[..], &["--bootstrap", &self.bootstrap]].concat());
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, topic: &str) {
        self.run(&self.tidewater, &["topic", "delete", topic, "--bootstrap", &self.bootstrap]);
    }
}

/// Least and median.
pub fn least_and_median(figures: &[f64]) -> (f64, f64) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[0], sorted[sorted.len() / 2])
}
