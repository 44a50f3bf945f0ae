//! Running a scenario under many schedules.
//!
//! Every schedule has its seed, so that a failure is a number that can be run again. Trying all
//! schedules would prove more, but there are too many of them even for three tasks.

use std::{
    any::Any,
    env,
    fmt::{self, Display},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use shuttle::{
    Config, FailurePersistence, MaxSteps, Runner,
    scheduler::{
        PctScheduler, RandomScheduler, ReplayScheduler, Schedule, Scheduler, Task, TaskId,
        UncontrolledNondeterminismCheckScheduler,
    },
};

/// The schedules per scenario, unless `TIERED_SHUTTLE_SCHEDULES` says otherwise.
const SCHEDULES: usize = 10_000;
/// The preemptions that [`Search::Pct`] looks for in one schedule.
const PREEMPTIONS: usize = 3;
/// More steps than any schedule needs: a scenario that takes them goes round in circles.
const STEPS: usize = 100_000;

/// Something that must hold under every schedule; it panics if it does not.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The name of its test.
    pub name: &'static str,
    /// One run.
    pub run: fn(),
}

/// A shipped file or a mutant of it, with the scenarios over it.
#[derive(Debug)]
pub struct Subject {
    /// The name of its module.
    pub name: &'static str,
    /// What it does wrong; empty if it is the shipped file.
    pub fault: &'static str,
    /// The same for all subjects of one file.
    pub scenarios: Vec<Scenario>,
}

/// How schedules are chosen.
#[derive(Clone, Copy, Debug)]
pub enum Search {
    /// Whichever task can run does, at every step.
    Random,
    /// Probabilistic concurrency testing: a few preemptions at random places (Burckhardt et al., "A
    /// Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010).
    Pct,
    /// As [`Search::Random`], beginning with the schedule of this seed.
    Seed(u64),
    /// Every random schedule twice, to see that nothing but the schedule decides.
    Twice,
}

/// A schedule under which a scenario failed.
#[derive(Debug)]
pub struct Catch {
    /// How many schedules it took, this one included.
    pub schedules: usize,
    /// The seed of this one.
    pub seed: u64,
    /// What the failure said.
    pub message: String,
}

impl Display for Catch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} schedules (seed {}): {}", self.schedules, self.seed, self.message)
    }
}

/// The schedules per scenario.
pub fn schedules() -> usize {
    let Ok(text) = env::var("TIERED_SHUTTLE_SCHEDULES") else { return SCHEDULES };
    let number = text.parse();
    assert!(number.is_ok(), "TIERED_SHUTTLE_SCHEDULES must be a number, not {text:?}");
    number.unwrap_or(SCHEDULES)
}

/// The name of the threads that hunt.
pub const THREAD: &str = "hunt";

/// Runs `scenario` under `schedules` schedules and returns the first that fails. A schedule in
/// `TIERED_SHUTTLE_REPLAY` is run instead, alone.
///
/// Each hunt has a thread of its own: a failure leaves the stacks of its tasks as they were, one of
/// them unwinding perhaps, and whatever ran on the same thread later would fail for that alone.
///
/// # Errors
///
/// The schedule that failed. It is printed as well, in the form that can be replayed.
pub fn hunt(scenario: Scenario, search: Search, schedules: usize) -> Result<(), Catch> {
    let record = Arc::new(Record::default());
    let ran = thread::scope(|scope| {
        let task = || choose(scenario, search, schedules, &record);
        let hunt = thread::Builder::new().name(THREAD.to_owned()).spawn_scoped(scope, task)?;
        Ok::<_, io::Error>(hunt.join().map_err(|payload| message(payload.as_ref())))
    });
    ran.unwrap_or_else(|why| Err(why.to_string())).map_err(|message| Catch {
        schedules: record.schedules.load(Ordering::Relaxed),
        seed: record.seed.load(Ordering::Relaxed),
        message,
    })
}

fn choose(scenario: Scenario, search: Search, schedules: usize, record: &Arc<Record>) {
    if let Ok(schedule) = env::var("TIERED_SHUTTLE_REPLAY") {
        return run(scenario, ReplayScheduler::new_from_encoded(&schedule), record);
    }
    match search {
        Search::Random => run(scenario, RandomScheduler::new(schedules), record),
        Search::Pct => run(scenario, PctScheduler::new(PREEMPTIONS, schedules), record),
        Search::Seed(seed) => {
            run(scenario, RandomScheduler::new_from_seed(seed, schedules), record);
        }
        Search::Twice => {
            let random = RandomScheduler::new(schedules);
            run(scenario, UncontrolledNondeterminismCheckScheduler::new(random), record);
        }
    }
}

fn run(scenario: Scenario, scheduler: impl Scheduler + 'static, record: &Arc<Record>) {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::Print;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.silence_warnings = true;
    let recorded = Recorded { scheduler, record: Arc::clone(record) };
    Runner::new(recorded, config).run(scenario.run);
}

fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else {
        "a panic without a message".to_owned()
    }
}

/// Where a hunt is.
#[derive(Debug, Default)]
struct Record {
    schedules: AtomicUsize,
    seed: AtomicU64,
}

/// A scheduler that tells where it is.
#[derive(Debug)]
struct Recorded<S> {
    scheduler: S,
    record: Arc<Record>,
}

impl<S: Scheduler> Scheduler for Recorded<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        let schedule = self.scheduler.new_execution()?;
        self.record.schedules.fetch_add(1, Ordering::Relaxed);
        self.record.seed.store(schedule.seed, Ordering::Relaxed);
        Some(schedule)
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        self.scheduler.next_task(runnable, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.scheduler.next_u64()
    }
}
