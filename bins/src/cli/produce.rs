//! `tidewater produce`: lines in, records out; the flags are kcat's.

mod syntax;

use std::fs::File;
use std::io::{BufRead, BufReader};
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

/// What is written, and where.
#[derive(Args)]
pub(super) struct Options {
    /// The topic
    topic: String,
    /// Read lines from this file instead of standard input; may be repeated
    #[arg(short = 'l', long = "lines", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What separates a line's key from its value; lines without it have no key
    #[arg(short = 'K', long, value_name = "DELIMITER", value_parser = unescape)]
    key_delimiter: Option<String>,
    /// What separates records
    #[arg(short = 'D', long, value_name = "DELIMITER", default_value = r"\n", value_parser = unescape)]
    delimiter: String,
    /// How a line is read, as for kafka-console-producer: parse.key=true, key.separator=:, parse.headers=true,
    /// headers.delimiter, headers.separator, headers.key.separator, null.marker; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::admin::entry, conflicts_with_all = ["key_delimiter", "key"])]
    property: Vec<(String, String)>,
    /// A key for all records
    #[arg(short, long, conflicts_with = "key_delimiter")]
    key: Option<String>,
    /// A header for all records; may be repeated
    #[arg(short = 'H', long, value_name = "NAME=VALUE")]
    header: Vec<String>,
    /// Write to this partition, instead of the key's
    #[arg(short, long)]
    partition: Option<i32>,
    /// Compress batches (compression.type)
    #[arg(short = 'z', long, value_enum)]
    codec: Option<Codec>,
    /// Empty keys and values become null: a null value is a tombstone
    #[arg(short = 'Z', long)]
    null: bool,
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
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
        let producer = Producer::with_delivery_callback(config, move |batch| reporting.add(batch))?;
        let (quiet, topic) = (options.quiet, options.topic.clone());
        let lines =
            Lines { options, syntax, producer: producer.clone(), report: Arc::clone(&report), sent: 0 };
        let read = tokio::task::spawn_blocking(move || lines.send_all());
        let read = tokio::select! {
            read = read => read.map_err(Failure::failed)?,
            () = stop.wait() => Ok(()),
        };
        producer.flush().await;
        let written = report.written.load(Ordering::Relaxed);
        if !quiet {
            say(format_args!("{written} records written to {topic}"));
        }
        report.failure().map_or(read, |failed| Err(failed.into()))
    })
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

/// Reads lines and hands them to the producer.
struct Lines {
    options: Options,
    syntax: Syntax,
    producer: Producer,
    report: Arc<Report>,
    sent: u64,
}

impl Lines {
    fn send_all(mut self) -> Result<()> {
        if self.options.files.is_empty() {
            return self.send("standard input", std::io::stdin().lock());
        }
        for path in self.options.files.clone() {
            let file = File::open(&path).map_err(|error| cannot_read(&path, &error))?;
            self.send(&path.display().to_string(), BufReader::new(file))?;
        }
        Ok(())
    }

    fn send(&mut self, name: &str, mut lines: impl BufRead) -> Result<()> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            let is_enough = self.options.count.is_some_and(|count| self.sent >= count);
            // What was not written will not get better by writing more.
            if is_enough || self.report.failure().is_some() {
                break;
            }
            let read = read_record(&mut lines, self.options.delimiter.as_bytes(), &mut line);
            if !read.map_err(|error| cannot_read(Path::new(name), &error))? {
                break;
            }
            self.send_line(&line).map_err(|error| Failure::of_input(name, number, &error))?;
            self.sent += 1;
        }
        Ok(())
    }

    fn send_line(&self, line: &[u8]) -> Result<()> {
        let options = &self.options;
        let Parsed { mut headers, key, value } = self.syntax.parse(line).map_err(Failure::failed)?;
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
        Ok(self.producer.enqueue_blocking(record).map(drop)?)
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
