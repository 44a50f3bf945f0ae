//! The shipped protocol, in every order of steps that the small bounds allow.

use tiered_models::{bus, fill, holds, tags};

#[test]
fn no_stale_fill() {
    for bounds in fill::Bounds::SMALL {
        let figures = fill::check(*bounds, 2).unwrap_or_else(|catch| panic!("{catch}"));
        println!("fill: {figures}");
    }
}

#[test]
fn nothing_stale_is_served() {
    for bounds in bus::Bounds::SMALL {
        let figures = bus::check(*bounds, 2).unwrap_or_else(|catch| panic!("{catch}"));
        println!("bus: {figures}");
    }
}

#[test]
fn what_is_believed_is_what_the_source_has() {
    for bounds in holds::Bounds::SMALL {
        let figures = holds::check(*bounds, 2).unwrap_or_else(|catch| panic!("{catch}"));
        println!("holds: {figures}");
    }
}

#[test]
fn nothing_of_an_invalidated_tag_is_believed() {
    for bounds in tags::Bounds::SMALL {
        let figures = tags::check(*bounds, 2).unwrap_or_else(|catch| panic!("{catch}"));
        println!("tags: {figures}");
    }
}
