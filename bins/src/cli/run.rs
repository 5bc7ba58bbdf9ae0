//! `tidewater run`: a job by name, until it has ended or is asked to stop.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use dataflow::format::PoisonPolicy;
use dataflow::metrics::MetricsSnapshot;
use dataflow::{JobHandle, Outcome, Settings, StartAt};
use indicatif::{ProgressBar, ProgressStyle};

use super::common::{Connection, Result, Stop, block_on, say};
use super::control::{Control, Running};
use crate::jobs::{self, OnPoison};

/// What to run, and how.
#[derive(Args)]
pub(super) struct Options {
    /// The job's name: clicks, pass
    job: String,
    /// The topic that is read (input.topic)
    #[arg(long)]
    input: Option<String>,
    /// The topic that is written (output.topic)
    #[arg(long)]
    output: Option<String>,
    /// The job's id (group.id): its positions and state are kept under it [default: from name, input and output]
    #[arg(long)]
    group: Option<String>,
    /// Where state is kept (state.url): a folder, or memory: for state that may be lost
    #[arg(long)]
    state: Option<String>,
    /// How many workers share the work (parallelism) [default: 1]
    #[arg(long)]
    parallelism: Option<usize>,
    /// Read to where the input ends at the first start, commit all of it, and end
    #[arg(long)]
    bounded: bool,
    /// Where the first start begins: earliest, latest, group, or milliseconds since 1970
    #[arg(long, default_value = "earliest", value_parser = start_at)]
    start: StartAt,
    /// Begin anew, as if the job had never run
    #[arg(long)]
    fresh: bool,
    /// What becomes of a record that cannot be read: the job stops and names it, or counts and skips it
    #[arg(long, value_enum, default_value_t = Policy::Stop)]
    on_poison: Policy,
    /// Keep records that cannot be read: their values go to this topic, in the transaction of the results
    #[arg(long, value_name = "TOPIC", conflicts_with = "on_poison")]
    dead_letter: Option<String>,
    /// Where `jobs`, `status` and `stop` find running jobs
    #[arg(long, value_name = "DIR", env = super::control::FOLDER_VARIABLE)]
    control: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, ValueEnum)]
enum Policy {
    Stop,
    Skip,
}

impl Options {
    fn poison(&self) -> OnPoison {
        match (&self.dead_letter, self.on_poison) {
            (Some(topic), _) => OnPoison::DeadLetter(topic.clone()),
            (None, Policy::Stop) => OnPoison::Policy(PoisonPolicy::Stop),
            (None, Policy::Skip) => OnPoison::Policy(PoisonPolicy::Skip),
        }
    }
}

fn start_at(text: &str) -> Result<StartAt, String> {
    match text {
        "earliest" => Ok(StartAt::Earliest),
        "latest" => Ok(StartAt::Latest),
        "group" => Ok(StartAt::Group),
        _ => text
            .parse()
            .map(StartAt::Timestamp)
            .map_err(|_| "use earliest, latest, group, or milliseconds since 1970".to_owned()),
    }
}

/// Runs the job to its end, or until Ctrl-C, SIGTERM or `tidewater stop`: then it commits what it has read.
pub(super) fn run(options: Options) -> Result<()> {
    let poison = options.poison();
    let flags = [
        ("input.topic", options.input),
        ("output.topic", options.output),
        ("group.id", options.group),
        ("state.url", options.state),
        ("parallelism", options.parallelism.map(|workers| workers.to_string())),
    ];
    let config = options.connection.configure(&[], &flags)?.build()?;
    let job = jobs::by_name(&options.job, &config, poison)?;
    let (bounded, start, fresh) = (options.bounded, options.start, options.fresh);
    let settings = Settings { bounded, start, fresh, ..Settings::from(&config) };
    block_on(async {
        let stop = Stop::listen()?;
        let begun = now();
        let handle = job.start(settings)?;
        let running = Running::new(handle.id(), &options.job, &config);
        let control = Control::listen(options.control.as_deref(), handle.id());
        let metrics = std::sync::Arc::clone(handle.metrics());
        let outcome = watch(handle, running, control, stop).await;
        let (seconds, total) = (begun.elapsed().as_secs_f64(), metrics.snapshot());
        let end = match outcome? {
            Outcome::Finished { epoch } => format!("finished at epoch {epoch}"),
            Outcome::Stopped { epoch } => format!("stopped at epoch {epoch}"),
        };
        say(format_args!("{end}: {} in {seconds:.1} s", totals(&total)));
        Ok(())
    })
}

/// How often it is looked whether the job has ended, and how often that is shown to a person.
const LOOK: Duration = Duration::from_millis(20);

/// Waits for the job's end; passes on what it is asked meanwhile.
async fn watch(
    handle: JobHandle,
    mut running: Running,
    mut control: Option<Control>,
    mut stop: Stop,
) -> Result<Outcome> {
    let progress = Progress::new();
    let mut look = tokio::time::interval(LOOK);
    let mut stopping = false;
    while !handle.is_ended() {
        tokio::select! {
            _ = look.tick() => progress.show(&handle),
            () = stop.wait(), if !stopping => stopping = true,
            asked = Control::next(&mut control) => {
                running.look(&handle);
                stopping |= asked.answer(&running).await;
            }
        }
        if stopping && running.stop() {
            handle.stop();
        }
    }
    progress.end();
    running.look(&handle);
    let outcome = handle.wait();
    if let Some(control) = control {
        control.end(&running).await;
    }
    Ok(outcome?)
}

fn totals(total: &MetricsSnapshot) -> String {
    let mut text = format!("{} records read, {} written", total.records_in, total.records_out);
    for (count, what) in
        [(total.late_records, "late"), (total.poison_records, "poison"), (total.restarts, "restarts")]
    {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    text
}

/// One line that is kept up to date, on a terminal only.
struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn show(&self, handle: &JobHandle) {
        if self.0.is_hidden() {
            return;
        }
        let now = handle.metrics().snapshot();
        self.0.set_position(now.records_in);
        let gauge = |value: Option<i64>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
        self.0.set_message(format!(
            "{} records, {:.0}/s · watermark {} · epoch {} · lag {}",
            now.records_in,
            self.0.per_sec(),
            gauge(now.watermark_ms),
            handle.status().committed.unwrap_or_default(),
            gauge(now.lag_records),
        ));
        self.0.tick();
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

#[allow(clippy::disallowed_methods, reason = "a command tells a person how long it took")]
fn now() -> Instant {
    Instant::now()
}
