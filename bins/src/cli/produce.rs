//! `tidewater produce`: lines or files in, records out; the flags are kcat's.

mod syntax;

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::{Args, ValueEnum};
use kafka_wire::config::ProducerConfig;
use kafka_wire::{BatchMetadata, Header, Producer, Record};

use self::syntax::{Parsed, Syntax, read_record};
use super::common::{Connection, Failure, Result, Stop, block_on, describe_topic, say};
use super::consume::format::unescape;

const EXAMPLES: &str = "\
Examples:
  printf 'a\\nb\\n' | tidewater produce orders
  printf 'ann:7.50\\nbob:\\n' | tidewater produce orders -K : -Z
  echo '{}' | tidewater produce orders -k ann -H source=shop -z zstd
  tidewater produce orders /etc/hostname
  tidewater produce orders -l /etc/hostname -n 1 --set transactional.id=copy";

/// What is written, and where.
///
/// With --set transactional.id=ID all of it is one transaction: it is committed at the end of the input, and aborted by
/// Ctrl-C or what goes wrong.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The topic
    topic: String,
    /// Each file is one record, instead of the lines of standard input
    #[arg(value_name = "FILE", conflicts_with_all = ["lines", "delimiter", "key_delimiter", "property"])]
    files: Vec<PathBuf>,
    /// Read lines from this file instead of standard input; may be repeated
    #[arg(short, long, value_name = "FILE")]
    lines: Vec<PathBuf>,
    /// What separates a line's key from its value; lines without it have no key
    #[arg(short = 'K', long, value_name = "DELIMITER", value_parser = unescape)]
    key_delimiter: Option<String>,
    /// What separates records
    #[arg(short = 'D', long, value_name = "DELIMITER", default_value = r"\n", value_parser = unescape)]
    delimiter: String,
    /// How a line is read, as for kafka-console-producer: parse.key=true, key.separator=:, parse.headers=true,
    /// headers.delimiter, headers.separator, headers.key.separator, null.marker; may be repeated
    #[arg(long, alias = "reader-property", value_name = "NAME=VALUE", value_parser = super::admin::entry, conflicts_with_all = ["key_delimiter", "key"])]
    property: Vec<(String, String)>,
    /// A key for all records that have none of their own
    #[arg(short, long)]
    key: Option<String>,
    /// A header for all records; may be repeated
    #[arg(short = 'H', long, value_name = "NAME=VALUE")]
    header: Vec<String>,
    /// Write to this partition, instead of the key's
    #[arg(short, long)]
    partition: Option<i32>,
    /// Compress batches (compression.type)
    #[arg(short = 'z', long, alias = "compression-codec", value_enum)]
    codec: Option<Codec>,
    /// Empty keys and values become null: a null value is a tombstone
    #[arg(short = 'Z', long)]
    null: bool,
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Print what is sent, too
    #[arg(short = 'T', long)]
    tee: bool,
    /// Do not say how much was written
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Writes what is read until its end, or until it is asked to stop: then what was read is written.
pub(super) fn run(options: Options) -> Result<()> {
    options.connection.check_is_no_count("written")?;
    let syntax = Syntax::new(&options).map_err(Failure::usage)?;
    let codec = options.codec.and_then(|codec| codec.to_possible_value());
    let flags = [("compression.type", codec.map(|codec| codec.get_name().to_owned()))];
    let properties = options.connection.properties(&[], &flags)?;
    block_on(async {
        let mut stop = Stop::listen()?;
        if properties.value("allow.auto.create.topics") != Some("true") {
            describe_topic(&properties, &options.topic).await?;
        }
        let report = Arc::new(Report::default());
        let reporting = Arc::clone(&report);
        let config = ProducerConfig::from_properties(&properties)?;
        let is_transactional = config.transactional_id.is_some();
        let producer = Producer::with_delivery_callback(config, move |batch| reporting.add(batch))?;
        if is_transactional {
            producer.init_transactions().await?;
            producer.begin_transaction().await?;
        }
        let (quiet, topic) = (options.quiet, options.topic.clone());
        let input =
            Input { options, syntax, producer: producer.clone(), report: Arc::clone(&report), sent: 0 };
        let read = tokio::task::spawn_blocking(move || input.send_all());
        let (read, was_stopped) = tokio::select! {
            read = read => (read.map_err(Failure::failed)?, false),
            () = stop.wait() => (Ok(()), true),
        };
        producer.flush().await;
        let outcome = report.failure().map_or(read, |failed| Err(failed.into()));
        let outcome =
            if is_transactional { end_transaction(&producer, outcome, was_stopped).await } else { outcome };
        // Without a transaction what came before a failure is there, and is counted.
        if !quiet && (outcome.is_ok() || !is_transactional) {
            let written = report.written.load(Ordering::Relaxed);
            say(format_args!("{written} records written to {topic}"));
        }
        outcome
    })
}

/// Commits what was read to its end, and aborts the rest.
async fn end_transaction(producer: &Producer, outcome: Result<()>, was_stopped: bool) -> Result<()> {
    let outcome = match outcome {
        Ok(()) if was_stopped => {
            Err(Failure::failed("the input was not read to its end: nothing is written"))
        }
        outcome => outcome,
    };
    if outcome.is_ok() {
        return Ok(producer.commit_transaction().await?);
    }
    if let Err(error) = producer.abort_transaction().await {
        say(format_args!("error: {error}"));
    }
    outcome
}

/// What became of the records.
#[derive(Default)]
struct Report {
    written: AtomicU64,
    failure: Mutex<Option<kafka_wire::Error>>,
}

impl Report {
    fn add(&self, batch: &kafka_wire::Result<BatchMetadata>) {
        match batch {
            Ok(batch) => {
                self.written.fetch_add(u64::from(batch.records), Ordering::Relaxed);
            }
            Err(error) => {
                let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert_with(|| error.clone());
            }
        }
    }

    fn failure(&self) -> Option<kafka_wire::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads and hands to the producer.
struct Input {
    options: Options,
    syntax: Syntax,
    producer: Producer,
    report: Arc<Report>,
    sent: u64,
}

impl Input {
    fn send_all(mut self) -> Result<()> {
        if !self.options.files.is_empty() {
            return self.send_files();
        }
        if self.options.lines.is_empty() {
            return self.send_lines("standard input", std::io::stdin().lock());
        }
        for path in self.options.lines.clone() {
            let file = File::open(&path).map_err(|error| cannot_read(&path, &error))?;
            self.send_lines(&path.display().to_string(), BufReader::new(file))?;
        }
        Ok(())
    }

    /// Each file is a record.
    fn send_files(&mut self) -> Result<()> {
        for path in self.options.files.clone() {
            if self.is_enough() {
                break;
            }
            let bytes = std::fs::read(&path).map_err(|error| cannot_read(&path, &error))?;
            let value = Parsed { headers: Vec::new(), key: None, value: &bytes };
            let sent = self.send(value);
            sent.map_err(|error| Failure::failed(format_args!("{}: {}", path.display(), error.text)))?;
            self.tee(&bytes)?;
        }
        Ok(())
    }

    fn send_lines(&mut self, name: &str, mut lines: impl BufRead) -> Result<()> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            if self.is_enough() {
                break;
            }
            let read = read_record(&mut lines, self.options.delimiter.as_bytes(), &mut line);
            if !read.map_err(|error| cannot_read(Path::new(name), &error))? {
                break;
            }
            let parsed = self.syntax.parse(&line).map_err(Failure::failed);
            let sent = parsed.and_then(|parsed| self.send(parsed));
            sent.map_err(|error| Failure::of_input(name, number, &error))?;
            self.tee(&line)?;
        }
        Ok(())
    }

    /// What was not written will not get better by writing more.
    fn is_enough(&self) -> bool {
        self.options.count.is_some_and(|count| self.sent >= count) || self.report.failure().is_some()
    }

    fn send(&mut self, parsed: Parsed<'_>) -> Result<()> {
        let options = &self.options;
        let Parsed { mut headers, key, value } = parsed;
        headers.extend(options.header.iter().map(|header| parse_header(header)));
        let key = key.or_else(|| options.key.as_deref().map(str::as_bytes));
        let kept = |bytes: &&[u8]| {
            !(options.null && bytes.is_empty()) && self.syntax.null_marker.as_deref() != Some(*bytes)
        };
        let record = Record {
            partition: options.partition,
            key: key.filter(kept),
            value: Some(value).filter(kept),
            ..Record::to(&options.topic).headers(&headers)
        };
        self.producer.enqueue_blocking(record)?;
        self.sent += 1;
        Ok(())
    }

    /// Passes on what was sent.
    fn tee(&self, bytes: &[u8]) -> Result<()> {
        if self.options.tee {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes)?;
            out.write_all(self.options.delimiter.as_bytes())?;
        }
        Ok(())
    }
}

impl Failure {
    /// A line that could not be sent.
    fn of_input(name: &str, line: u64, error: &Self) -> Self {
        Self::failed(format_args!("line {line} of {name}: {}", error.text))
    }
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format_args!("read {}: {error}", path.display()))
}

/// `NAME=VALUE`; as with kcat, a name alone has a null value.
fn parse_header(text: &str) -> Header<'_> {
    match text.split_once('=') {
        Some((key, value)) => Header { key: key.as_bytes(), value: Some(value.as_bytes()) },
        None => Header { key: text.as_bytes(), value: None },
    }
}
