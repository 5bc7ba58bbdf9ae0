//! `tidewater jobs | status | stop`: talk to running jobs, each over a unix socket in one folder.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use dataflow::metrics::MetricsSnapshot;
use dataflow::{Config, JobHandle};
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};

use super::common::{Failure, Result};

/// Names the folder of the sockets; by default it is one of the user's own that does not outlive the machine.
pub(super) const FOLDER_VARIABLE: &str = "TIDEWATER_CONTROL";

/// How long the other side may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which jobs.
#[derive(Args)]
pub(super) struct JobsOptions {
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    /// The folder of running jobs, as given to `run`
    #[arg(long, value_name = "DIR", env = FOLDER_VARIABLE)]
    control: Option<PathBuf>,
}

/// Which job.
#[derive(Args)]
pub(super) struct JobOptions {
    /// The job's id, as `jobs` lists it; not needed when only one runs
    job: Option<String>,
    #[command(flatten)]
    jobs: JobsOptions,
}

fn folder(chosen: Option<&Path>) -> PathBuf {
    let runtime = || std::env::var_os("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("tidewater"));
    let shared = || {
        let user = std::env::var("USER").unwrap_or_else(|_| "user".to_owned());
        std::env::temp_dir().join(format!("tidewater-{user}"))
    };
    chosen.map(Path::to_owned).or_else(runtime).unwrap_or_else(shared)
}

/// What a running job tells about itself.
#[derive(Serialize)]
pub(super) struct Running {
    job: String,
    name: String,
    pid: u32,
    input: Option<String>,
    output: Option<String>,
    stopping: bool,
    epoch: Option<u64>,
    buffered_bytes: usize,
    metrics: Option<MetricsSnapshot>,
}

impl Running {
    pub(super) fn new(id: &str, name: &str, config: &Config) -> Self {
        Self {
            job: id.to_owned(),
            name: name.to_owned(),
            pid: std::process::id(),
            input: config.input_topic.clone(),
            output: config.output_topic.clone(),
            stopping: false,
            epoch: None,
            buffered_bytes: 0,
            metrics: None,
        }
    }

    /// Brings the figures up to date.
    pub(super) fn look(&mut self, handle: &JobHandle) {
        let status = handle.status();
        self.epoch = status.committed.or(self.epoch);
        self.buffered_bytes = status.buffered_bytes;
        self.metrics = Some(handle.metrics().snapshot());
    }

    /// Notes that it is stopping; whether that is news.
    pub(super) fn stop(&mut self) -> bool {
        !std::mem::replace(&mut self.stopping, true)
    }

    fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// The running job's side of its socket.
pub(super) struct Control {
    listener: tokio::net::UnixListener,
    path: PathBuf,
    inode: u64,
    /// Who asked it to stop and waits for that.
    waiting: Vec<tokio::net::UnixStream>,
}

/// A connection with a question.
pub(super) struct Asked<'a> {
    stream: tokio::net::UnixStream,
    waiting: &'a mut Vec<tokio::net::UnixStream>,
}

impl Control {
    /// Listens for questions. A job runs without that too: then none, and a warning.
    pub(super) fn listen(chosen: Option<&Path>, job: &str) -> Option<Self> {
        let path = folder(chosen).join(format!("{}.sock", file_name(job)));
        let listen = || -> io::Result<Self> {
            // Only this user may stop the job.
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder(chosen))?;
            // An earlier run's; one that still runs is fenced by this one.
            let _ = std::fs::remove_file(&path);
            let listener = tokio::net::UnixListener::bind(&path)?;
            let inode = std::fs::metadata(&path)?.ino();
            Ok(Self { listener, path: path.clone(), inode, waiting: Vec::new() })
        };
        listen()
            .inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "jobs, status and stop will not find this job");
            })
            .ok()
    }

    /// The next question; never, without a socket.
    pub(super) async fn next(control: &mut Option<Self>) -> Asked<'_> {
        let Some(Self { listener, waiting, .. }) = control else { return std::future::pending().await };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Asked { stream, waiting },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a question");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Tells those who wait that the job has ended.
    pub(super) async fn end(mut self, running: &Running) {
        for mut stream in std::mem::take(&mut self.waiting) {
            // Who has gone need not be told.
            let _ = stream.write_all(&running.line()).await;
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Not the socket of a later run of the same job.
        if std::fs::metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Asked<'_> {
    /// Answers; whether the job is asked to stop.
    pub(super) async fn answer(mut self, running: &Running) -> bool {
        let mut question = String::new();
        let mut reader = tokio::io::BufReader::new(&mut self.stream);
        let read = tokio::time::timeout(PATIENCE, reader.read_line(&mut question)).await;
        if !matches!(read, Ok(Ok(_))) {
            return false;
        }
        if question.trim() == "stop" {
            self.waiting.push(self.stream);
            return true;
        }
        // Who has gone needs no answer.
        let _ = tokio::time::timeout(PATIENCE, self.stream.write_all(&running.line())).await;
        false
    }
}

/// A job id may hold what a file name may not.
fn file_name(job: &str) -> String {
    job.chars().map(|char| if char.is_alphanumeric() || "-_.".contains(char) { char } else { '_' }).collect()
}

/// The sockets in the folder.
fn sockets(options: &JobsOptions) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(options.control.as_deref()));
    let mut paths: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "sock"));
    paths.sort();
    paths
}

/// Asks the job behind a socket; none when no job is behind it any more.
fn ask(path: &Path, question: &str, patience: Option<Duration>) -> Result<Option<Value>> {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            // A job that was killed leaves its socket behind.
            let _ = std::fs::remove_file(path);
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::failed(format_args!("ask {}: {error}", path.display()))),
    };
    stream.set_read_timeout(patience)?;
    stream.write_all(format!("{question}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .map_err(|error| Failure::failed(format_args!("ask {}: {error}", path.display())))?;
    Ok(serde_json::from_str(&line).ok())
}

/// Lists running jobs.
pub(super) fn jobs(options: &JobsOptions) -> Result<()> {
    let mut out = io::stdout().lock();
    for path in sockets(options) {
        let Some(job) = ask(&path, "status", Some(PATIENCE))? else { continue };
        if options.json {
            writeln!(out, "{job}")?;
        } else {
            let text = |field: &str| job[field].as_str().unwrap_or("-").to_owned();
            let (id, name, input, output) = (text("job"), text("name"), text("input"), text("output"));
            writeln!(out, "{id}\t{name}\t{input} -> {output}\tpid {}\tepoch {}", job["pid"], job["epoch"])?;
        }
    }
    Ok(())
}

/// Shows a job's figures.
pub(super) fn status(options: &JobOptions) -> Result<()> {
    let (path, _) = find(options)?;
    let job = ask(&path, "status", Some(PATIENCE))?.ok_or_else(|| Failure::failed("the job has ended"))?;
    print(options, &job)
}

/// Ends a job, and waits until it has ended.
pub(super) fn stop(options: &JobOptions) -> Result<()> {
    let (path, id) = find(options)?;
    // How long the last commit takes is for the job to say, by its own timeouts.
    match ask(&path, "stop", None)? {
        Some(job) if options.jobs.json => print(options, &job),
        Some(job) => Ok(writeln!(io::stdout(), "stopped {id} at epoch {}", job["epoch"])?),
        None => Err(Failure::failed(format_args!("stop {id}: it ended without saying how; see its log"))),
    }
}

fn print(options: &JobOptions, job: &Value) -> Result<()> {
    let mut out = io::stdout().lock();
    if options.jobs.json {
        return Ok(writeln!(out, "{job}")?);
    }
    let fields = job.as_object().into_iter().flatten().filter(|(name, _)| *name != "metrics");
    let metrics = job["metrics"].as_object().into_iter().flatten();
    for (name, value) in fields.chain(metrics) {
        match value {
            Value::Null => writeln!(out, "{name}: -")?,
            Value::String(text) => writeln!(out, "{name}: {text}")?,
            Value::Object(parts) => {
                let parts: Vec<String> =
                    parts.iter().map(|(part, value)| format!("{part} {value}")).collect();
                writeln!(out, "{name}: {}", parts.join(", "))?;
            }
            _ => writeln!(out, "{name}: {value}")?,
        }
    }
    Ok(())
}

/// The socket of the job that is meant, and its id.
fn find(options: &JobOptions) -> Result<(PathBuf, String)> {
    let mut running = Vec::new();
    for path in sockets(&options.jobs) {
        if let Some(job) = ask(&path, "status", Some(PATIENCE))? {
            running.push((path, job["job"].as_str().unwrap_or_default().to_owned()));
        }
    }
    let ids = running.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>().join(", ");
    let there = if ids.is_empty() { "no job runs here".to_owned() } else { format!("running: {ids}") };
    let found = match &options.job {
        Some(wanted) => running.into_iter().find(|(_, id)| id == wanted),
        None if running.len() == 1 => running.pop(),
        None if running.is_empty() => None,
        None => return Err(Failure::usage(format_args!("say which job; {there}"))),
    };
    found.ok_or_else(|| {
        let wanted = options.job.as_deref().map(|job| format!(" {job}")).unwrap_or_default();
        Failure::failed(format_args!("find running job{wanted}: {there}"))
    })
}
