//! The jobs that come with the program, by name.

mod clicks;
mod pass;

use dataflow::format::{Bytes, Decode, PoisonPolicy};
use dataflow::{Config, Data, Error, ErrorKind, Job, KafkaSink, KafkaSource, Result, Stream};

/// What `tidewater run` can start: name, aliases (the peers' names), and how it is built.
type Named = (&'static str, &'static [&'static str], fn(Topics) -> Job);

/// What a job reads and writes.
struct Topics {
    input: String,
    output: String,
    poison: OnPoison,
}

/// What becomes of a record that cannot be read.
pub(crate) enum OnPoison {
    /// See [`PoisonPolicy`].
    Policy(PoisonPolicy),
    /// Its value goes to this topic, in the transaction of its epoch.
    DeadLetter(String),
}

impl Topics {
    /// What can be read of the input.
    fn read<D>(&self, job: &mut Job, source: KafkaSource<D>) -> Stream<D::Item>
    where
        D: Decode + Sync,
        D::Item: Data,
    {
        let topic = match &self.poison {
            OnPoison::Policy(policy) => return job.source(source.poison(*policy)),
            OnPoison::DeadLetter(topic) => topic.as_str(),
        };
        let read = job.source(source.or_poison());
        let poison = read.clone().flat_map(|item| item.err());
        poison.map(|poison| poison.value).sink(KafkaSink::of(topic, Bytes));
        read.flat_map(|item| item.ok())
    }
}

const JOBS: &[Named] = &[("clicks", &["window"], clicks::job), ("pass", &[], pass::job)];

/// The job of this name, as the configuration wants it; `poison` is what becomes of a record that cannot be read.
///
/// # Errors
/// [`ErrorKind::Config`] for a name that there is not, and when a topic is not given.
pub(crate) fn by_name(name: &str, config: &Config, poison: OnPoison) -> Result<Job> {
    let usage = |attempted: String| Error::new(ErrorKind::Config, attempted);
    let found = JOBS.iter().find(|(job, aliases, _)| *job == name || aliases.contains(&name));
    let Some((_, _, build)) = found else {
        let names: Vec<&str> = JOBS.iter().map(|(name, _, _)| *name).collect();
        let attempted = format!("run job \"{name}\": there is none of this name");
        return Err(usage(attempted).with_hint(format!("there are {}", names.join(", "))));
    };
    let topic = |topic: &Option<String>, flag: &str| {
        topic.clone().ok_or_else(|| usage(format!("run job \"{name}\" without {flag} TOPIC")))
    };
    let input = topic(&config.input_topic, "--input")?;
    Ok(build(Topics { input, output: topic(&config.output_topic, "--output")?, poison }))
}
