//! The type of all golden values. It never changes: its shape is in the entries.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    id: u64,
    customer: String,
    lines: Vec<Line>,
    payment: Payment,
    notes: BTreeMap<String, String>,
    total: i128,
    weight: Option<f64>,
    rate: f32,
    mark: char,
    gift: bool,
    unit: (),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    ware: Ware,
    count: u16,
    cents: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ware(String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Payment {
    Cash,
    Card(String),
    Split(u32, i8),
    Transfer { iban: String, days: Option<u8> },
}
