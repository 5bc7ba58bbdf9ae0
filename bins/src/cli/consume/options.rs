//! What `tidewater consume` can be told; the short flags are kcat's.

use clap::Args;

use super::console;
use super::format::{Layout, Style, unescape};
use super::start::{Bound, Bounds, Start};
use super::unpack::Pack;
use crate::cli::admin::entry;
use crate::cli::common::{Connection, Failure, Result};

const EXAMPLES: &str = "\
Examples:
  tidewater consume orders -e
  tidewater consume orders -o -5 -e -f '%p/%o %T %k: %s (%S bytes)\\n'
  tidewater consume orders -p 0 -o s@2026-11-21T08:00 -o e@2026-11-21T09:00
  tidewater consume orders -J -n 1
  tidewater consume '^ord' -e -Z -K :
  tidewater consume orders -G billing -e
  tidewater consume orders -e --property print.key=true --property print.headers=true";

/// What is read, from where, and how it is printed.
///
/// Only what is committed is read, unless --isolation says otherwise.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Options {
    /// The topics; one that begins with ^ is a pattern for the names of those that there are when this begins
    #[arg(required = true, value_name = "TOPIC")]
    pub(super) topics: Vec<String>,
    /// Where to begin: beginning, end, stored, an offset, -N for the last N of each partition, or s@TIMESTAMP; and
    /// where to stop: e@TIMESTAMP, before the first record of that time or later. Timestamps are milliseconds, or
    /// such as 2026-11-21T14:00 [default: beginning; stored with --group]
    #[arg(short, long, value_parser = Bound::parse, allow_hyphen_values = true)]
    pub(super) offset: Vec<Bound>,
    /// As --offset beginning
    #[arg(long)]
    pub(super) from_beginning: bool,
    /// Only these partitions; may be repeated
    #[arg(short, long)]
    pub(super) partition: Vec<i32>,
    /// Exit at the end, as it is when this begins
    #[arg(short, long)]
    pub(super) exit: bool,
    /// Exit after this many records
    #[arg(short = 'n', long, visible_alias = "max-messages", value_name = "N")]
    pub(super) count: Option<u64>,
    /// How a record is printed: %k key, %v or %s value, %o offset, %p partition, %t topic, %T timestamp, %h headers,
    /// %K and %V (or %S) lengths (-1 for null), %R the value's as four bytes, \n \t \xHH
    #[arg(short, long, value_parser = Layout::parse, conflicts_with = "json")]
    format: Option<Layout>,
    /// Print keys, too, and this between key and value
    #[arg(short = 'K', long, value_name = "DELIMITER", value_parser = unescape, conflicts_with_all = ["format", "json"])]
    key_delimiter: Option<String>,
    /// Print offsets, too, with --key-delimiter behind them [default there: a blank]
    #[arg(short = 'O', long, conflicts_with_all = ["format", "json"])]
    print_offset: bool,
    /// What is printed behind each record
    #[arg(short = 'D', long, default_value = r"\n", value_parser = unescape, conflicts_with_all = ["format", "json"])]
    delimiter: String,
    /// What binary keys and values are made of: PACK for both, key=PACK or value=PACK. In a PACK b h i q are signed
    /// integers of 1, 2, 4 and 8 bytes, B H I Q unsigned ones, c is a character, s the rest, $ the end, and < is for
    /// little endian; may be repeated
    #[arg(short = 's', long, value_name = "PACK", value_parser = Unpack::parse)]
    unpack: Vec<Unpack>,
    /// How a record is printed, as for kafka-console-consumer: print.key=true, print.offset=true, key.separator=|,
    /// value.deserializer=LongDeserializer …; may be repeated
    #[arg(long, alias = "formatter-property", value_name = "NAME=VALUE", value_parser = entry, conflicts_with_all = ["format", "json", "key_delimiter", "delimiter", "unpack", "print_offset"])]
    property: Vec<(String, String)>,
    /// Exit when no record comes for so long
    #[arg(long, value_name = "MILLISECONDS")]
    pub(super) timeout_ms: Option<u64>,
    /// Print one JSON object a line, as kcat does
    #[arg(short = 'J', long)]
    json: bool,
    /// What is printed for a null key or value
    #[arg(short = 'Z', long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "NULL")]
    null: Option<String>,
    /// Read as a member of this group: go on where it is, commit what was printed, share the partitions with its other
    /// members. With --partition or --offset, go on for it without being one
    #[arg(short = 'G', long)]
    pub(super) group: Option<String>,
    /// read_committed, or read_uncommitted to see open and aborted transactions too
    #[arg(long, alias = "isolation-level", value_parser = ["read_committed", "read_uncommitted"])]
    pub(super) isolation: Option<String>,
    /// kcat's -q: there is nothing here to be quiet about
    #[arg(short = 'q', long = "quiet", hide = true)]
    _quiet: bool,
    /// kcat's -u: what is read is always printed before more is waited for
    #[arg(short = 'u', long = "unbuffered", hide = true)]
    _unbuffered: bool,
    #[command(flatten)]
    pub(super) connection: Connection,
}

/// Of what a pack-str is.
#[derive(Clone, Debug)]
enum Unpack {
    Key(Pack),
    Value(Pack),
    Both(Pack),
}

impl Unpack {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None => Pack::parse(text).map(Self::Both),
            Some(("key", pack)) => Pack::parse(pack).map(Self::Key),
            Some(("value", pack)) => Pack::parse(pack).map(Self::Value),
            Some(_) => Err("expected PACK, key=PACK or value=PACK".to_owned()),
        }
    }
}

impl Options {
    /// Where it begins and stops.
    pub(super) fn bounds(&self) -> Result<Bounds> {
        let beginning = self.from_beginning.then_some(Bound::From(Start::Beginning));
        Bounds::new(self.offset.iter().copied().chain(beginning)).map_err(Failure::usage)
    }

    /// How records are printed.
    pub(super) fn style(&self) -> Result<Style> {
        if !self.property.is_empty() {
            let style = console::style(&self.property).map_err(Failure::usage)?;
            return Ok(Style { null: self.null.clone().unwrap_or(style.null), ..style });
        }
        let offset_delimiter = self.print_offset.then(|| self.key_delimiter.as_deref().unwrap_or(" "));
        let layout = match &self.format {
            _ if self.json => Layout::Json,
            Some(format) => format.clone(),
            None => Layout::plain(self.key_delimiter.as_deref(), offset_delimiter, &self.delimiter),
        };
        let (mut key, mut value) = (None, None);
        for unpack in &self.unpack {
            match unpack.clone() {
                Unpack::Key(pack) => key = Some(pack),
                Unpack::Value(pack) => value = Some(pack),
                Unpack::Both(pack) => (key, value) = (Some(pack.clone()), Some(pack)),
            }
        }
        let null = self.null.clone().unwrap_or_default();
        Ok(Style { layout, null, headers_separator: ",".to_owned(), key, value })
    }
}
