//! The report: a line for each promise.

use std::{fmt, time::Duration};

use crate::{
    clock::{MILLISECOND, SECOND},
    database::Seen,
    histogram::Histogram,
    options::Options,
    run::Outcome,
    tally::{Count, Measure},
    worker::TOLERANCE,
};

/// How many violations are printed in full.
const SHOWN: usize = 10;

/// What is to be said of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Kept,
    Broken,
    /// Nothing is promised here, or nothing yet.
    Number,
}

/// Prints what came of a mode; says whether every promise was kept.
pub(crate) fn print(outcome: &Outcome, options: &Options) -> bool {
    let Outcome { mode, time, told, .. } = outcome;
    println!(
        "mode {}, {:.1} s, {} workers, seed {}",
        mode.name(),
        time.as_secs_f64(),
        options.workers,
        options.seed
    );
    let mut is_kept = true;
    for (verdict, promise, numbers) in lines(outcome) {
        let word = match verdict {
            Verdict::Kept => "ok",
            Verdict::Broken => "BROKEN",
            Verdict::Number => "-",
        };
        is_kept &= verdict != Verdict::Broken;
        println!("  {word:<7} {promise:<32} {numbers}");
    }
    for violation in told.violations.iter().take(SHOWN) {
        println!("          {violation}");
    }
    is_kept
}

/// What repeats the run.
pub(crate) fn command(options: &Options) -> String {
    let Options { time, seed, modes, workers, readers, writers, lookers, keys, pause, forge } =
        options;
    let mode = match modes.as_slice() {
        [mode] => mode.name(),
        _ => "all",
    };
    let forge = if *forge { " --forge" } else { "" };
    format!(
        "again: scripts/consistency {} {seed} --mode {mode} --workers {workers} --readers {readers} --writers \
         {writers} --lookers {lookers} --keys {keys} --pause {pause}{forge}",
        time.as_secs()
    )
}

fn lines(outcome: &Outcome) -> Vec<(Verdict, &'static str, String)> {
    let Outcome { mode, time, told, seen, longest_stop, faults } = outcome;
    let Seen { epochs, loads, longest_load } = seen;
    let tally = &told.tally;
    let of = |count| tally.of(count);
    let measured = |measure| tally.measured(measure);
    let (reads, looks) = (of(Count::Reads), of(Count::Looks));
    // A promise that was kept because nobody looked was not kept.
    let none =
        |broken: u64, of: u64| if broken == 0 && of > 0 { Verdict::Kept } else { Verdict::Broken };
    let unless_lost = |verdict| match mode.keeps_what_it_acknowledged() {
        true => verdict,
        false => Verdict::Number,
    };
    let within = |measured: &Histogram, bound: u64| match measured.max() > bound + TOLERANCE {
        true => Verdict::Broken,
        false => Verdict::Kept,
    };
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    // Walks in the background are nobody's, and a process may have stood still in one.
    let walk = nanoseconds(*longest_load.max(longest_stop)).max(measured(Measure::Walk).max());
    let past = nanoseconds(mode.last_bound()).max(walk);
    let mut lines = vec![
        (
            none(0, reads),
            "reads checked",
            format!(
                "{reads} ({:.0} per second): L1 {}, L2 {}, own load {}, shared {}, one of these {}, past \
                 its time {}; slower \
                 than 20 ms {}",
                reads as f64 / time.as_secs_f64(),
                of(Count::Local),
                of(Count::Remote),
                of(Count::Loaded),
                of(Count::Shared),
                of(Count::Somewhere),
                of(Count::Past),
                of(Count::Slow)
            ),
        ),
        (
            unless_lost(none(of(Count::StaleFills), looks - of(Count::Silent).min(looks))),
            "no stale fill in L2",
            format!(
                "{} of {looks} looks past L1, {} invalidations undone ({} nothing there, {} no answer, {} when all was quiet){}",
                of(Count::StaleFills),
                told.undone.len(),
                of(Count::Absent),
                of(Count::Silent),
                of(Count::LastLooks),
                rate(of(Count::StaleFills), looks)
            ),
        ),
        (
            none(of(Count::Wrong), reads),
            "no wrong value",
            format!("{} of {reads} reads{}", of(Count::Wrong), rate(of(Count::Wrong), reads)),
        ),
        (
            unless_lost(none(of(Count::Forgotten), reads)),
            "own invalidations are final",
            format!("{} of {reads} reads older than this process allows", of(Count::Forgotten)),
        ),
        (
            none(of(Count::LateLoads), of(Count::Loaded)),
            "no load older than its caller",
            format!("{} of {} loads", of(Count::LateLoads), of(Count::Loaded)),
        ),
    ];
    if let Some(bound) = mode.local_bound() {
        let verdict = match none(of(Count::TooStale), of(Count::Local)) {
            Verdict::Kept => within(measured(Measure::StaleLocal), nanoseconds(bound)),
            verdict => verdict,
        };
        lines.push((
            unless_lost(verdict),
            "L1 is stale no longer than",
            format!(
                "{} ms: {} too stale; when asked {}; when answered {}",
                bound.as_millis(),
                of(Count::TooStale),
                Spread(measured(Measure::StaleLocal)),
                Spread(measured(Measure::StaleLocalAfter))
            ),
        ));
    }
    lines.extend([
        (
            unless_lost(within(measured(Measure::StaleShared), walk)),
            "shared walks are no older than",
            format!(
                "the longest walk, load or stop, {} ms: stale {}; walks {}",
                walk / MILLISECOND,
                Spread(measured(Measure::StaleShared)),
                Spread(measured(Measure::Walk))
            ),
        ),
        (
            unless_lost(within(measured(Measure::StaleSomewhere), past)),
            "whatever else is no older than",
            format!("{} ms: stale {}", past / MILLISECOND, Spread(measured(Measure::StaleSomewhere))),
        ),
        (
            unless_lost(within(measured(Measure::StalePast), past)),
            "the last resort is no older than",
            format!("{} ms: stale {}", past / MILLISECOND, Spread(measured(Measure::StalePast))),
        ),
        (
            none(of(Count::Failed) + of(Count::Refused) + told.deaths, reads),
            "nothing fails but the database",
            format!(
                "{} reads and {} writes failed by themselves, {} workers ended by themselves; {} reads failed with \
                 the database",
                of(Count::Failed),
                of(Count::Refused),
                told.deaths,
                of(Count::DatabaseFailed)
            ),
        ),
        (
            Verdict::Number,
            "loads per epoch",
            format!(
                "healthy {}; disturbed {}; {loads} loads in all",
                Numbers(&epochs.healthy),
                Numbers(&epochs.disturbed)
            ),
        ),
        (
            Verdict::Number,
            "invalidations",
            format!(
                "{} acknowledged, {} pending, {} given up midway",
                of(Count::Acked),
                of(Count::Pending),
                of(Count::Dropped)
            ),
        ),
        (
            Verdict::Number,
            "other reads",
            format!("{} found nothing, {} given up midway", of(Count::Missed), of(Count::GivenUp)),
        ),
        (
            Verdict::Number,
            "faults",
            match faults.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>() {
                names if names.is_empty() => "none".into(),
                names => names.join(", "),
            },
        ),
    ]);
    lines
}

/// What can be said of a rate when nothing was found: three in so many, with nineteen chances in twenty.
fn rate(found: u64, of: u64) -> String {
    match (found, of) {
        (0, 1..) => format!("; rate below {:.1e}", 3.0 / of as f64),
        _ => String::new(),
    }
}

/// A distribution of times.
struct Spread<'a>(&'a Histogram);

impl fmt::Display for Spread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |nanoseconds: u64| nanoseconds as f64 / (SECOND / 1_000) as f64;
        let Self(all) = self;
        let (half, most) = (ms(all.percentile(50)), ms(all.percentile(99)));
        write!(f, "{}: p50 {half:.1} p99 {most:.1} max {:.1} ms", all.count(), ms(all.max()))
    }
}

/// A distribution of numbers.
struct Numbers<'a>(&'a Histogram);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(all) = self;
        let (half, most) = (all.percentile(50), all.percentile(99));
        write!(f, "{}: p50 {half} p99 {most} max {}", all.count(), all.max())
    }
}
