//! The conformance suite of L1 under test itself: each fault of a tier is found.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use tiered_tiers::{LocalEntry, LocalTier, Quick, Value, testing::local_tier_conforms};

/// What a tier can do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    ForgetsToRemove,
    ForgetsToClear,
    ServesTheDead,
    KeepsTheFirst,
    KeepsTheOldLife,
    DropsNegatives,
    CutsKeys,
    KeepsTheOldOfTheHeavy,
    HoldsValues,
    MiscountsEntries,
    ChangesMeta,
}

const FAULTS: [Fault; 11] = [
    Fault::ForgetsToRemove,
    Fault::ForgetsToClear,
    Fault::ServesTheDead,
    Fault::KeepsTheFirst,
    Fault::KeepsTheOldLife,
    Fault::DropsNegatives,
    Fault::CutsKeys,
    Fault::KeepsTheOldOfTheHeavy,
    Fault::HoldsValues,
    Fault::MiscountsEntries,
    Fault::ChangesMeta,
];

/// A tier with one fault, or none.
#[derive(Debug)]
struct Broken {
    inner: Quick,
    fault: Option<Fault>,
    held: Mutex<Vec<Value>>,
}

impl Broken {
    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn key<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        if self.has(Fault::CutsKeys) { &key[..key.len().min(1)] } else { key }
    }
}

impl LocalTier for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn get(&self, key: &[u8]) -> Option<LocalEntry> {
        let mut entry = self.inner.get(self.key(key))?;
        if self.has(Fault::ChangesMeta) {
            entry.meta.schema += 1;
        }
        Some(entry)
    }

    fn insert(&self, key: &[u8], entry: LocalEntry, weight: u64, life: Duration) {
        let key = self.key(key);
        let old = self.inner.get(key);
        match self.fault {
            Some(Fault::KeepsTheFirst) if old.is_some() => return,
            Some(Fault::DropsNegatives) if entry.value.is_none() => return,
            Some(Fault::KeepsTheOldOfTheHeavy) if weight == u64::MAX => return,
            Some(Fault::HoldsValues) => self.held.lock().unwrap().push(entry.value.clone()),
            _ => {}
        }
        let life = match self.fault {
            Some(Fault::ServesTheDead) => Duration::MAX,
            Some(Fault::KeepsTheOldLife) if old.is_some() => Duration::from_secs(600),
            _ => life,
        };
        self.inner.insert(key, entry, weight, life);
    }

    fn remove(&self, key: &[u8]) {
        if !self.has(Fault::ForgetsToRemove) {
            self.inner.remove(self.key(key));
        }
    }

    fn clear(&self) {
        if !self.has(Fault::ForgetsToClear) {
            self.inner.clear();
        }
    }

    fn entries(&self) -> u64 {
        self.inner.entries() + if self.has(Fault::MiscountsEntries) { 5 } else { 0 }
    }
}

fn conforms(fault: Option<Fault>) -> bool {
    let make = move || -> Arc<dyn LocalTier> {
        Arc::new(Broken { inner: Quick::new(1_000), fault, held: Mutex::default() })
    };
    catch_unwind(AssertUnwindSafe(|| local_tier_conforms(make))).is_ok()
}

#[test]
fn the_suite_finds_every_fault_of_an_l1() {
    assert!(conforms(None));
    for fault in FAULTS {
        assert!(!conforms(Some(fault)), "{fault:?} was not found");
    }
}
