//! [`Epochs`]: how often a version is loaded.
//!
//! An epoch of a key goes from the acknowledgement of its last version to the commit of the next. What is loaded
//! in between could have been loaded once. Loads between a commit and its acknowledgement belong to nobody.

use crate::{
    clock::{MILLISECOND, SECOND},
    histogram::Histogram,
};

/// How long after a fault its consequences may last: a lease whose holder is gone, pending invalidations.
const AFTERMATH: u64 = 1_500 * MILLISECOND;
/// Longer ones may see their entries expire.
const LONGEST: u64 = 20 * SECOND;

/// The epoch of one key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Epoch {
    since: Option<(u64, u64)>,
    loads: u64,
}

/// When something was broken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Disturbances {
    /// Faults so far.
    pub(crate) begun: u64,
    /// Faults that last.
    pub(crate) lasting: u64,
    /// When the last one ended.
    pub(crate) ended: u64,
}

/// All epochs that have ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Epochs {
    /// Loads per epoch that nothing disturbed. Those without a load are not in it.
    pub(crate) healthy: Histogram,
    /// Loads per epoch with faults before or during it.
    pub(crate) disturbed: Histogram,
}

impl Epoch {
    pub(crate) fn load(&mut self) {
        self.loads += 1;
    }

    pub(crate) fn begin(&mut self, now: u64, disturbances: Disturbances) {
        let is_calm = disturbances.lasting == 0 && now > disturbances.ended + AFTERMATH;
        // No number of faults is so high: never calm.
        let begun = if is_calm { disturbances.begun } else { u64::MAX };
        *self = Self { since: Some((now, begun)), loads: 0 };
    }

    pub(crate) fn end(&mut self, now: u64, disturbances: Disturbances, epochs: &mut Epochs) {
        let Some((since, begun)) = self.since.take() else { return };
        if self.loads == 0 || now - since > LONGEST {
            return;
        }
        let is_healthy = begun == disturbances.begun;
        let all = if is_healthy { &mut epochs.healthy } else { &mut epochs.disturbed };
        all.add(self.loads);
    }
}
