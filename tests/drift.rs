//! Entries that must not be believed: of another version, another type, another key, or damaged.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tiered::{Outcome, tiers::RemoteTier};
use uuid::Uuid;

use crate::support::{DbDown, Rig, SECOND, node, rig};

scenarios! {
    a_struct_that_changed_never_decodes_its_former_self,
    a_refused_entry_is_overwritten_by_the_next_load,
    an_older_schema_version_is_replaced_and_a_newer_one_left_alone,
    damage_of_any_bit_is_a_counted_miss,
    swapped_values_of_two_keys_are_misses,
    two_namespaces_on_one_server_do_not_meet,
    a_panicking_deserialize_is_a_miss,
}

mod former {
    use super::*;
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Item {
        pub id: Uuid,
        pub count: u32,
    }
}
mod retyped {
    use super::*;
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Item {
        pub id: Uuid,
        pub count: i32,
    }
}
mod gained {
    use super::*;
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Item {
        pub id: Uuid,
        pub count: u32,
        #[serde(default)]
        pub note: Option<String>,
    }
}
mod lost {
    use super::*;
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Item {
        pub id: Uuid,
    }
}
mod moved {
    use super::*;
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Item {
        pub count: u32,
        pub id: Uuid,
    }
}
mod twin {
    use super::*;
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct RenamedItem {
        pub id: Uuid,
        pub count: u32,
    }
}

const ITEM: former::Item = former::Item { id: Uuid::from_u128(77), count: 1 };

async fn is_miss<T>(rig: &Rig) -> bool
where
    T: Serialize + for<'de> Deserialize<'de> + Send + Sync + 'static,
{
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let outcome = other.key("k").lookup::<T>().await.unwrap().outcome;
    assert_eq!(other.stats().decode_failures, u64::from(outcome == Outcome::Miss));
    outcome == Outcome::Miss
}

async fn a_struct_that_changed_never_decodes_its_former_self() {
    let rig = rig();
    let _ = rig.cache.set("k", ITEM).await.unwrap();
    assert!(!is_miss::<former::Item>(&rig).await);
    assert!(!is_miss::<twin::RenamedItem>(&rig).await, "a type's name is not its shape");
    assert!(is_miss::<retyped::Item>(&rig).await);
    assert!(is_miss::<gained::Item>(&rig).await);
    assert!(is_miss::<lost::Item>(&rig).await);
    assert!(is_miss::<moved::Item>(&rig).await);
}

async fn a_refused_entry_is_overwritten_by_the_next_load() {
    let rig = rig();
    let _ = rig.cache.set("k", ITEM).await.unwrap();
    let found = rig.memory.get(b"tiered:k").await.unwrap().unwrap();
    rig.memory.set(b"tiered:k", found.bytes.slice(1..), SECOND).await.unwrap();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    let value = former::Item { count: 2, ..ITEM };
    let load = || async { Ok::<_, DbDown>(value.clone()) };
    assert_eq!(*other.get_or_load("k", load).await.unwrap(), value);
    assert_eq!(other.stats().decode_failures, 1, "judged once");
    assert!(!is_miss::<former::Item>(&rig).await);
}

async fn an_older_schema_version_is_replaced_and_a_newer_one_left_alone() {
    let rig = rig();
    let (old, new) = (&rig.cache, node(&rig.l2, &rig.clock, |builder| builder));
    let load = |value: u32| move || async move { Ok::<_, DbDown>(value) };
    old.key("k").schema(1).get_or_load(load(1)).await.unwrap();
    new.key("k").schema(3).get_or_load(load(2)).await.unwrap();
    rig.clock.advance(11 * SECOND);
    // The old version meets the new one's entry: it loads, and leaves that entry alone.
    let value = old.key("k").schema(1).get_or_load(load(10)).await.unwrap();
    assert_eq!(*value, 10);
    let reader = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(reader.key("k").schema(3).get::<u32>().await.unwrap().as_deref(), Some(&2));
    assert_eq!(old.key("k").schema(1).lookup::<u32>().await.unwrap().outcome, Outcome::HitL1);
    // In one process, too: L1 tells the versions apart.
    assert_eq!(old.key("k").schema(5).lookup::<u32>().await.unwrap().value, None);
}

async fn damage_of_any_bit_is_a_counted_miss() {
    let rig = rig();
    let _ = rig.cache.set("k", ITEM).await.unwrap();
    let found = rig.memory.get(b"tiered:k").await.unwrap().unwrap();
    let mut failures = 0;
    let reader = node(&rig.l2, &rig.clock, |builder| builder);
    for bit in 0..found.bytes.len() * 8 {
        let mut bytes = found.bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        rig.memory.set(b"tiered:k", Bytes::from(bytes), SECOND).await.unwrap();
        assert_eq!(reader.get::<former::Item>("k").await.unwrap(), None);
        failures += 1;
    }
    for length in 0..found.bytes.len() {
        rig.memory.set(b"tiered:k", found.bytes.slice(..length), SECOND).await.unwrap();
        assert_eq!(reader.get::<former::Item>("k").await.unwrap(), None);
        failures += 1;
    }
    assert_eq!(reader.stats().decode_failures, failures);
    assert_eq!(rig.l2.distrusted() as u64, failures, "the tier is told each time");
}

async fn swapped_values_of_two_keys_are_misses() {
    let rig = rig();
    let _ = rig.cache.set("a", 1_u32).await.unwrap();
    let _ = rig.cache.set("b", 2_u32).await.unwrap();
    let a = rig.memory.get(b"tiered:a").await.unwrap().unwrap().bytes;
    let b = rig.memory.get(b"tiered:b").await.unwrap().unwrap().bytes;
    rig.memory.set(b"tiered:a", b, SECOND).await.unwrap();
    rig.memory.set(b"tiered:b", a, SECOND).await.unwrap();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(other.get::<u32>("a").await.unwrap(), None);
    assert_eq!(other.get::<u32>("b").await.unwrap(), None);
    assert_eq!(other.stats().decode_failures, 2);
}

async fn two_namespaces_on_one_server_do_not_meet() {
    let rig = rig();
    let (a, b) = (
        node(&rig.l2, &rig.clock, |builder| builder.namespace("a")),
        node(&rig.l2, &rig.clock, |builder| builder.namespace("a:b")),
    );
    let _ = a.set("b:k", 1_u32).await.unwrap();
    let _ = b.set("k", 2_u32).await.unwrap();
    assert_eq!(a.key("b:k").skip_l1().get::<u32>().await.unwrap().as_deref(), Some(&1));
    assert_eq!(b.key("k").skip_l1().get::<u32>().await.unwrap().as_deref(), Some(&2));
}

async fn a_panicking_deserialize_is_a_miss() {
    #[derive(Debug, Serialize)]
    struct Bomb(u32);
    impl<'de> Deserialize<'de> for Bomb {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let value = u32::deserialize(deserializer)?;
            if value == 13 {
                panic!("unlucky");
            }
            Ok(Self(value))
        }
    }
    let rig = rig();
    let _ = rig.cache.set("k", Bomb(13)).await.unwrap();
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(other.key("k").lookup::<Bomb>().await.unwrap().outcome, Outcome::Miss);
    let _ = rig.cache.set("k", Bomb(14)).await.unwrap();
    assert_eq!(other.get::<Bomb>("k").await.unwrap().unwrap().0, 14);
}

#[tokio::test]
async fn a_type_that_cannot_be_traced_whole_is_said_once_and_told_apart_by_its_schema_version() {
    /// Its shape ends where serde asks what comes next.
    #[derive(Clone, Debug, PartialEq)]
    struct Opaque(u32);
    impl Serialize for Opaque {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            (0_u8, self.0).serialize(serializer)
        }
    }
    impl<'de> Deserialize<'de> for Opaque {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let (choice, value) = <(Zero, u32)>::deserialize(deserializer)?;
            assert_eq!(choice, Zero);
            Ok(Self(value))
        }
    }
    /// Accepts nothing that a tracer would think of.
    #[derive(Clone, Debug, PartialEq)]
    struct Zero;
    impl<'de> Deserialize<'de> for Zero {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Picky;
            impl<'de> serde::de::Visitor<'de> for Picky {
                type Value = Zero;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a byte out of postcard")
                }
                fn visit_u8<E: serde::de::Error>(self, value: u8) -> Result<Zero, E> {
                    let tracing = std::any::type_name::<E>().contains("shape");
                    if value == 0 && !tracing { Ok(Zero) } else { Err(E::custom("no")) }
                }
            }
            deserializer.deserialize_u8(Picky)
        }
    }

    let log = crate::support::Log::capture();
    let rig = rig();
    for key in 0..5 {
        let _ = rig.cache.key(key).schema(1).set(Opaque(7)).await.unwrap();
    }
    let lines = log.lines();
    let said = lines.iter().filter(|line| line.contains("raise its schema version")).count();
    assert_eq!(said, 1, "{lines:?}");
    let other = node(&rig.l2, &rig.clock, |builder| builder);
    assert_eq!(*other.key(1).schema(1).get::<Opaque>().await.unwrap().unwrap(), Opaque(7));
    assert_eq!(other.key(2).schema(2).get::<Opaque>().await.unwrap(), None);
}
