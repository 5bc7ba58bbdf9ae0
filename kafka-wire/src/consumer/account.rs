//! What waits for the application, in bytes of memory.

use foldhash::{HashMap, HashMapExt as _};

use super::fetched::Step;

/// One answer of a broker. Uncompressed or not, its batches are slices of it until they are opened, and keep
/// all of it in memory until the last one is.
#[derive(Clone, Copy, Debug)]
struct Answer {
    id: u64,
    bytes: usize,
}

/// A step that waits, and the answer that it keeps in memory.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) step: Step,
    answer: Option<Answer>,
}

/// What a step takes besides its batch's bytes.
pub(super) const STEP_BYTES: usize = size_of::<Waiting>();

impl Waiting {
    /// A step that counts by itself.
    pub(super) fn alone(step: Step) -> Self {
        Self { step, answer: None }
    }

    /// What it takes by itself.
    pub(super) fn size_bytes(&self) -> usize {
        STEP_BYTES + self.step.size_bytes()
    }

    /// Lets go of the answer, by a copy.
    pub(super) fn detach(&mut self) {
        if self.answer.take().is_some() {
            self.step.detach();
        }
    }
}

/// The sums. Of partitions that are read, whole answers count; what paused ones keep has been
/// [detached](Waiting::detach), lest a little of it holds up all others.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) active_bytes: usize,
    pub(super) paused_bytes: usize,
    /// How many steps keep each answer.
    answers: HashMap<u64, usize>,
    /// The last one.
    answer: Answer,
}

impl Account {
    pub(super) fn new() -> Self {
        Self { active_bytes: 0, paused_bytes: 0, answers: HashMap::new(), answer: Answer { id: 0, bytes: 0 } }
    }

    /// Steps come in another answer from now on, which has this many bytes of batches.
    pub(super) fn begin_answer(&mut self, bytes: usize) {
        self.answer = Answer { id: self.answer.id + 1, bytes };
    }

    /// A step of that answer.
    pub(super) fn waiting(&self, step: Step) -> Waiting {
        let answer = step.batch.as_ref().map(|_| self.answer);
        Waiting { step, answer }
    }

    pub(super) fn add(&mut self, waiting: &Waiting, paused: bool) {
        if paused {
            self.paused_bytes += waiting.size_bytes();
            return;
        }
        self.active_bytes += match waiting.answer {
            None => waiting.size_bytes(),
            Some(answer) => {
                let steps = self.answers.entry(answer.id).or_default();
                *steps += 1;
                STEP_BYTES + if *steps == 1 { answer.bytes } else { 0 }
            }
        };
    }

    pub(super) fn subtract(&mut self, waiting: &Waiting, paused: bool) {
        if paused {
            self.paused_bytes -= waiting.size_bytes();
            return;
        }
        self.active_bytes -= match waiting.answer {
            None => waiting.size_bytes(),
            Some(answer) => {
                let left = self.answers.get_mut(&answer.id).map_or(0, |steps| {
                    *steps -= 1;
                    *steps
                });
                if left == 0 {
                    self.answers.remove(&answer.id);
                }
                STEP_BYTES + if left == 0 { answer.bytes } else { 0 }
            }
        };
    }
}
