//! The jobs that come with the program, by name.

mod clicks;
mod pass;

use dataflow::{Config, Error, ErrorKind, Job, Result};

/// What `tidewater run` can start: name, aliases (the peers' names), and how it is built from input and output.
type Named = (&'static str, &'static [&'static str], fn(&str, &str) -> Job);

const JOBS: &[Named] = &[("clicks", &["window"], clicks::job), ("pass", &[], pass::job)];

/// The job of this name, as the configuration wants it.
///
/// # Errors
/// [`ErrorKind::Config`] for a name that there is not, and when a topic is not given.
pub(crate) fn by_name(name: &str, config: &Config) -> Result<Job> {
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
    Ok(build(&topic(&config.input_topic, "--input")?, &topic(&config.output_topic, "--output")?))
}
