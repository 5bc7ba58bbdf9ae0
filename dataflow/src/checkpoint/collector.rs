//! Which objects nobody needs any more.

use std::collections::BTreeSet;

use super::object::StateObject;

/// Decides what is deleted after a commit.
///
/// It only ever names objects that cannot belong to a newer instance of the job: those that were listed
/// before this instance's own commit (whose success proves that no newer one had fenced it by then), and
/// those that its own manifests named. Of these it spares what the newest manifest and pinned ones name.
#[derive(Debug)]
pub struct Collector {
    known: BTreeSet<String>,
    pinned: BTreeSet<String>,
}

impl Collector {
    /// `found` lists the store after this instance took over and before its first commit; `pinned` are the
    /// paths that pinned manifests (savepoints) name.
    pub fn new(found: impl IntoIterator<Item = String>, pinned: impl IntoIterator<Item = String>) -> Self {
        Self { known: found.into_iter().collect(), pinned: pinned.into_iter().collect() }
    }

    /// A manifest that names `state` has just been committed by this instance: returns the paths to delete.
    pub fn committed(&mut self, state: &[StateObject]) -> Vec<String> {
        let named: BTreeSet<String> = state.iter().map(|object| object.object.path.clone()).collect();
        let garbage: Vec<String> = self
            .known
            .iter()
            .filter(|path| !named.contains(*path) && !self.pinned.contains(*path))
            .cloned()
            .collect();
        self.known = named;
        garbage
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::ObjectRef;
    use crate::state::{KeyGroupRange, SnapshotKind};

    fn object(path: &str) -> StateObject {
        StateObject {
            uid: "w".into(),
            epoch: 1,
            kind: SnapshotKind::Base,
            groups: KeyGroupRange::ALL,
            object: ObjectRef { path: path.into(), length: 1, crc32c: 0 },
        }
    }

    #[test]
    fn only_what_was_known_and_is_named_no_more_goes() {
        let found = ["old/1", "old/2", "savepoint/1"].map(String::from);
        let mut collector = Collector::new(found, ["savepoint/1".to_owned()]);
        assert_eq!(collector.committed(&[object("old/2")]), ["old/1"]);
        assert_eq!(collector.committed(&[object("old/2"), object("new/3")]), Vec::<String>::new());
        assert_eq!(collector.committed(&[object("new/4")]), ["new/3", "old/2"]);
        assert_eq!(collector.committed(&[object("new/4")]), Vec::<String>::new());
    }
}
