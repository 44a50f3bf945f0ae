//! What surrounds a codec: compression, sealing, and reading what others wrote.

#![cfg(all(
    feature = "postcard",
    feature = "messagepack",
    feature = "json",
    feature = "zstd",
    feature = "seal"
))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "packings/across.rs"]
mod across;
#[path = "packings/checks.rs"]
mod checks;
#[path = "packings/compressing.rs"]
mod compressing;
#[path = "packings/forging.rs"]
mod forging;
#[path = "packings/sealing.rs"]
mod sealing;
#[path = "packings/secrets.rs"]
mod secrets;
mod support;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A value that is worth compressing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
    notes: BTreeMap<String, String>,
    lines: Vec<(String, u32)>,
}

fn order() -> Order {
    Order {
        id: 506_098,
        customer: "frances of Aachen".into(),
        notes: BTreeMap::from([
            ("delivery".into(), "leave it with the neighbours, please".into()),
            ("gift".into(), "wrapped in green paper".into()),
        ]),
        lines: vec![("brass lamp".into(), 11_470); 6],
    }
}
