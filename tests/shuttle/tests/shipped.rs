//! Every scenario holds for the shipped files.

use tiered_shuttle::{Search, Subject, hunt, schedules};

/// Runs the scenario `name` of `subject` both ways.
fn holds(subject: &Subject, name: &str) -> Result<(), String> {
    let scenario = subject.scenarios.iter().find(|scenario| scenario.name == name);
    let scenario = *scenario.ok_or_else(|| format!("there is no scenario {name}"))?;
    for search in [Search::Random, Search::Pct] {
        hunt(scenario, search, schedules()).map_err(|catch| format!("{search:?}: {catch}"))?;
    }
    Ok(())
}

/// One test for each scenario.
macro_rules! scenarios {
    ($($file:ident: $($name:ident)*;)*) => {$(
        mod $file {
            use tiered_shuttle::$file::shipped;

            $(
                #[test]
                fn $name() -> Result<(), String> {
                    super::holds(&shipped(), stringify!($name))
                }
            )*

            #[test]
            fn no_scenario_is_forgotten() {
                let all = shipped().scenarios;
                let all: Vec<_> = all.iter().map(|scenario| scenario.name).collect();
                assert_eq!(all, [$(stringify!($name)),*]);
            }
        }
    )*};
}

scenarios! {
    flight:
        two_callers_meet
        callers_share_a_walk
        lost_leaders_are_replaced
        callers_come_and_go
        detached_flights_end_alone
        courses_fly_apart
        solo_flights_fly_alone
        leaders_hand_out_seats;
    fence:
        loads_end_at_an_invalidation
        two_writes_leave_the_last
        reads_and_writes_mix
        undisturbed_loads_hold
        steps_exclude_each_other;
    view:
        what_is_void_is_not_served
        what_a_message_names_is_not_served
        what_is_kept_since_is_proven;
    table:
        what_was_marked_before_does_not_stand
        what_a_load_reveals_is_not_kept_over_an_invalidation;
}

/// A seed brings back what it showed: nothing but the schedule decides.
#[test]
fn schedules_can_be_run_again() {
    let subjects = [
        tiered_shuttle::flight::shipped(),
        tiered_shuttle::fence::shipped(),
        tiered_shuttle::view::shipped(),
        tiered_shuttle::table::shipped(),
    ];
    for scenario in subjects.iter().flat_map(|subject| &subject.scenarios) {
        let twice = hunt(*scenario, Search::Twice, schedules().min(500));
        assert!(twice.is_ok(), "{}: {twice:?}", scenario.name);
    }
}
