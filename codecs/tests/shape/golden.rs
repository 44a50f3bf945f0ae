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
    let pinned: [(_, u64); 6] = [
        (whole::<u32>(), 0x70e5_94e1_0198_72c7),
        (whole::<String>(), 0xd68b_9240_4ed1_90cc),
        (whole::<(u8, i64)>(), 0xdbde_b572_ccf6_f5a7),
        (whole::<HashMap<String, Vec<f64>>>(), 0x0be9_d30a_54f9_fa6b),
        (whole::<Role>(), 0x62b0_e973_0cea_3b65),
        (whole::<User>(), 0x399d_1cce_d80a_8b5a),
    ];
    let found = pinned.map(|(shape, _)| format!("{:#018x}", shape.value()));
    let wanted = pinned.map(|(_, value)| format!("{:#018x}", value));
    assert_eq!(found, wanted);
}
