//! What must hold for the table, whichever task runs when.

use std::sync::Arc;

use shuttle::thread;

use super::Counting;
use crate::Scenario;

/// All scenarios for one copy.
pub(super) fn all<T: Counting>() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "what_was_marked_before_does_not_stand",
            run: what_was_marked_before_does_not_stand::<T>,
        },
        Scenario {
            name: "what_a_load_reveals_is_not_kept_over_an_invalidation",
            run: what_a_load_reveals_is_not_kept_over_an_invalidation::<T>,
        },
    ]
}

/// Two invalidations at once, which have ended: no mark from before them stands, and those from after them do.
fn what_was_marked_before_does_not_stand<T: Counting>() {
    let table = Arc::new(T::new());
    let before = table.marks();
    let invalidating = || {
        let table = Arc::clone(&table);
        thread::spawn(move || table.bump())
    };
    for task in [invalidating(), invalidating()] {
        assert!(task.join().is_ok(), "an invalidation");
    }
    assert!(!table.stand(&before), "an old mark stands");
    assert!(table.stand(&table.marks()), "a new mark does not stand");
}

/// A load that began before an invalidation learns its tag at any time: it either finds that something was invalidated,
/// or its mark does not stand in the end.
fn what_a_load_reveals_is_not_kept_over_an_invalidation<T: Counting>() {
    let table = Arc::new(T::new());
    let before = table.bumps();
    let invalidating = {
        let table = Arc::clone(&table);
        thread::spawn(move || table.bump())
    };
    let marks = table.marks();
    let is_kept = table.bumps() == before;
    assert!(invalidating.join().is_ok(), "the invalidation");
    assert!(!(is_kept && table.stand(&marks)), "what was loaded before it is kept");
}
