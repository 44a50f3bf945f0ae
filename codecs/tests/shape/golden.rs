//! Fingerprints that never change. One that does turns every stored entry into a miss: should that
//! be wanted, change the prefix that is hashed, and these with it.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use serde::Deserialize;
use uuid::Uuid;

use super::whole;

#[derive(Deserialize)]
#[allow(dead_code)]
struct User {
    id: Uuid,
    name: String,
    age: Option<u8>,
    tags: Vec<String>,
    role: Role,
    friends: Vec<User>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
enum Role {
    Guest,
    Member(u32),
    Team(u8, i64),
    Admin { since: Duration, from: IpAddr },
}

#[test]
fn fingerprints_are_pinned() {
    let pinned = [
        (whole::<u32>(), 0),
        (whole::<String>(), 0),
        (whole::<(u8, i64)>(), 0),
        (whole::<HashMap<String, Vec<f64>>>(), 0),
        (whole::<Role>(), 0),
        (whole::<User>(), 0),
    ];
    let found = pinned.map(|(shape, _)| format!("{:#018x}", shape.value()));
    let wanted = pinned.map(|(_, value)| format!("{:#018x}", value));
    assert_eq!(found, wanted);
}
