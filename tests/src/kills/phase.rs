//! In which phase of its life a job was killed, by the places that its log says it passed.

use std::fmt;

use crate::clicks::splitmix64;

/// A stretch between two of a job's crash points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Until the start manifest is committed.
    StartUp,
    /// Records are read, outputs are sent, state is written.
    EpochOpen,
    /// Outputs and state of the epoch are safe, the manifest is on its way.
    StateDurable,
    /// The end of the transaction is asked for, the answer has not been read.
    CommitSent,
}

impl Phase {
    /// All, in the order in which a run goes through them.
    pub const ALL: [Self; 4] = [Self::StartUp, Self::EpochOpen, Self::StateDurable, Self::CommitSent];

    /// The phase in which the process died that left `log`.
    pub fn of(log: &str) -> Self {
        let mut phase = Self::StartUp;
        for place in places(log) {
            phase = match place {
                "started" => Self::EpochOpen,
                // Also of a run that began again in the same process.
                "fenced" => Self::StartUp,
                _ if phase == Self::StartUp => Self::StartUp,
                "committed" => Self::EpochOpen,
                "state-durable" | "manifest-sent" => Self::StateDurable,
                "commit-sent" => Self::CommitSent,
                // Outputs may be sent late, by another worker or for an epoch to come.
                _ => phase,
            };
        }
        phase
    }

    /// A crash point in this phase, as `DATAFLOW_CRASH_AT` wants it.
    pub fn draw_place(self, random: &mut u64) -> String {
        let places: &[&str] = match self {
            Self::StartUp => &["fenced", "state-durable", "manifest-sent", "commit-sent", "committed"],
            Self::EpochOpen => &["outputs-sent", "committed"],
            Self::StateDurable => &["state-durable", "manifest-sent"],
            Self::CommitSent => &["commit-sent"],
        };
        let place = places[draw(random, places.len() as u64) as usize];
        match self {
            Self::StartUp => place.to_owned(),
            // The first commit of a run is that of the start manifest.
            _ => format!("{place}:{}", 2 + draw(random, 15)),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::StartUp => "start-up",
            Self::EpochOpen => "epoch open",
            Self::StateDurable => "state durable",
            Self::CommitSent => "commit sent",
        })
    }
}

/// The crash points that a job passed, in order.
pub(super) fn places(log: &str) -> impl Iterator<Item = &str> {
    let passed = log.lines().filter(|line| line.contains("passing"));
    passed.filter_map(|line| line.split_once("place=\"")?.1.split('"').next())
}

/// A number below `bound`.
pub(super) fn draw(random: &mut u64, bound: u64) -> u64 {
    splitmix64(random) % bound
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase_after(places: &[&str]) -> Phase {
        let line = |place: &&str| format!("DEBUG dataflow::engine::crash: passing place=\"{place}\"\n");
        Phase::of(&places.iter().map(line).collect::<String>())
    }

    #[test]
    fn the_phase_is_that_of_the_last_place() {
        let start = ["fenced", "state-durable", "manifest-sent", "commit-sent", "committed"];
        for passed in 0..=start.len() {
            assert_eq!(phase_after(&start[..passed]), Phase::StartUp);
        }
        let then = |more: &[&str]| phase_after(&[&start[..], &["started"], more].concat());
        assert_eq!(then(&[]), Phase::EpochOpen);
        assert_eq!(then(&["outputs-sent"]), Phase::EpochOpen);
        assert_eq!(then(&["outputs-sent", "state-durable"]), Phase::StateDurable);
        assert_eq!(then(&["state-durable", "manifest-sent", "outputs-sent"]), Phase::StateDurable);
        assert_eq!(then(&["state-durable", "manifest-sent", "commit-sent"]), Phase::CommitSent);
        assert_eq!(then(&["commit-sent", "committed"]), Phase::EpochOpen);
        assert_eq!(then(&["commit-sent", "committed", "fenced", "commit-sent"]), Phase::StartUp);
    }
}
