//! The tower: it sees every walk of a scenario and knows what must never happen.
//!
//! Its own lock is the standard library's and never held while another task may run, so that
//! watching adds no schedules of its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Air, Course, Walk};

/// The flights under test and what is known of them.
pub(super) struct Tower<A: Air> {
    pub(super) flights: A::Flights,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    /// The number of walks that have begun.
    walks: usize,
    aloft: Vec<Aloft>,
    /// The walks whose landing has returned.
    landed: Vec<usize>,
    /// Walks that ended without landing.
    lost: usize,
    /// Waiters that became leaders.
    takeovers: usize,
    detaches_called: usize,
    detaches_returned: usize,
}

struct Aloft {
    number: usize,
    /// The course and the detaches before its caller joined; `None` if it may fly beside others.
    lane: Option<(Course, usize)>,
}

/// What the tower knew when a caller joined.
#[derive(Clone, Copy)]
pub(super) struct Boarding {
    course: Course,
    landed: usize,
    detaches_returned: usize,
    lane: Option<(Course, usize)>,
    solo: bool,
}

/// A walk under way. Dropped, it is lost.
pub(super) struct Flying<A: Air> {
    tower: Arc<Tower<A>>,
    walk: Walk,
    ended: bool,
}

impl<A: Air> Tower<A> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { flights: A::flights(), log: Mutex::default() })
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be asked before a caller joins.
    pub(super) fn boarding(&self, course: Course) -> Boarding {
        let log = self.log();
        let (landed, detaches_returned) = (log.landed.len(), log.detaches_returned);
        Boarding { course, landed, detaches_returned, lane: None, solo: false }
    }

    pub(super) fn boarding_solo(&self, course: Course) -> Boarding {
        Boarding { solo: true, ..self.boarding(course) }
    }

    /// To be told after it has joined. Who joined while a detach ran may fly beside others.
    pub(super) fn boarded(&self, boarding: &mut Boarding) {
        let calm = self.log().detaches_called == boarding.detaches_returned;
        boarding.lane = calm.then_some((boarding.course, boarding.detaches_returned));
    }

    pub(super) fn took_over(&self) {
        let mut log = self.log();
        log.takeovers += 1;
        assert!(log.takeovers <= log.lost, "a flight was taken over from a leader that landed");
    }

    pub(super) fn take_off(self: &Arc<Self>, boarding: &Boarding) -> Flying<A> {
        let mut log = self.log();
        let beside =
            log.aloft.iter().find(|other| other.lane.is_some() && other.lane == boarding.lane);
        let beside = beside.map(|other| other.number);
        let number = log.walks;
        let Boarding { course, solo, .. } = *boarding;
        let walk = Walk { number, course, solo, detaches: log.detaches_called };
        log.walks += 1;
        log.aloft.push(Aloft { number, lane: boarding.lane });
        drop(log);
        let flying = Flying { tower: Arc::clone(self), walk, ended: false };
        assert_eq!(beside, None, "two walks at once");
        flying
    }

    /// To be told after a landing has returned.
    pub(super) fn landed(&self, walk: Walk) {
        self.log().landed.push(walk.number);
    }

    /// To be told what a waiter got.
    pub(super) fn arrived(&self, boarding: &Boarding, walk: Walk) {
        let log = self.log();
        let over = log.landed[..boarding.landed].contains(&walk.number);
        drop(log);
        assert_eq!(walk.course, boarding.course, "a result of another course");
        assert_eq!(walk.solo, boarding.solo, "a result of another's solo flight");
        assert!(!over, "a result of a walk that was over before the caller came");
        assert!(
            walk.detaches >= boarding.detaches_returned,
            "a result of a walk from before a detach, for a caller from after it"
        );
    }

    pub(super) fn detach(&self) {
        self.log().detaches_called += 1;
        A::detach(&self.flights);
        self.log().detaches_returned += 1;
    }

    /// To be called when nobody flies or waits any more.
    pub(super) fn close(&self) {
        let log = self.log();
        let (aloft, walks, landed, lost) = (log.aloft.len(), log.walks, log.landed.len(), log.lost);
        drop(log);
        assert_eq!(aloft, 0, "a walk is still under way");
        assert_eq!(walks, landed + lost, "a walk neither landed nor was lost");
        assert_eq!(A::len(&self.flights), 0, "a flight was left behind");
        assert_eq!(A::keys(&self.flights), 0, "a key was left behind");
    }
}

impl<A: Air> Flying<A> {
    pub(super) fn number(&self) -> usize {
        self.walk.number
    }

    /// The end of the walk. Its result is to be landed.
    pub(super) fn end(mut self) -> Walk {
        self.ended = true;
        self.walk
    }
}

impl<A: Air> Drop for Flying<A> {
    fn drop(&mut self) {
        let mut log = self.tower.log();
        log.aloft.retain(|other| other.number != self.walk.number);
        if !self.ended {
            log.lost += 1;
        }
    }
}
