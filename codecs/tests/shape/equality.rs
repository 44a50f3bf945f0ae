//! What makes two shapes one, and what tells them apart.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use tiered_codecs::Shape;
use uuid::Uuid;

use super::whole;

/// Declares types that are only ever traced.
macro_rules! traced {
    ($($item:item)*) => {$(#[derive(Deserialize)] #[allow(dead_code)] $item)*};
}

traced! {
    struct User { id: u64, name: String, admin: bool }
    struct Person { id: u64, name: String, admin: bool }
    struct Added { id: u64, name: String, admin: bool, age: u8 }
    struct Dropped { id: u64, name: String }
    struct Moved { name: String, id: u64, admin: bool }
    struct Renamed { id: u64, nick: String, admin: bool }
    struct Retyped { id: i64, name: String, admin: bool }
}

#[test]
fn the_name_of_a_type_does_not_count() {
    assert_eq!(whole::<User>(), whole::<Person>());
}

#[test]
fn any_change_of_a_field_counts() {
    let shapes = [
        whole::<User>(),
        whole::<Added>(),
        whole::<Dropped>(),
        whole::<Moved>(),
        whole::<Renamed>(),
        whole::<Retyped>(),
    ];
    assert_eq!(HashSet::from(shapes).len(), shapes.len());
}

traced! {
    enum Event { Made, Sent(u32), Paid { cents: u64 } }
    enum Occurrence { Made, Sent(u32), Paid { cents: u64 } }
    enum VariantAdded { Made, Sent(u32), Paid { cents: u64 }, Lost }
    enum VariantDropped { Made, Sent(u32) }
    enum VariantMoved { Sent(u32), Made, Paid { cents: u64 } }
    enum VariantRenamed { Made, Shipped(u32), Paid { cents: u64 } }
    enum VariantRetyped { Made, Sent(i32), Paid { cents: u64 } }
    enum VariantWidened { Made, Sent(u32, u32), Paid { cents: u64 } }
    enum VariantFieldRenamed { Made, Sent(u32), Paid { euros: u64 } }
    enum VariantFilled { Made(()), Sent(u32), Paid { cents: u64 } }
}

#[test]
fn any_change_of_a_variant_counts() {
    assert_eq!(whole::<Event>(), whole::<Occurrence>());
    let shapes = [
        whole::<Event>(),
        whole::<VariantAdded>(),
        whole::<VariantDropped>(),
        whole::<VariantMoved>(),
        whole::<VariantRenamed>(),
        whole::<VariantRetyped>(),
        whole::<VariantWidened>(),
        whole::<VariantFieldRenamed>(),
        whole::<VariantFilled>(),
    ];
    assert_eq!(HashSet::from(shapes).len(), shapes.len());
}

traced! {
    struct Signed { id: Uuid, count: i32 }
    struct Unsigned { id: Uuid, count: u32 }
    struct SignedTuple(Uuid, i32);
    struct UnsignedTuple(Uuid, u32);
    enum SignedVariant { Only(Uuid, i32) }
    enum UnsignedVariant { Only(Uuid, u32) }
}

#[test]
fn what_follows_a_checked_value_counts() {
    assert_ne!(whole::<Signed>(), whole::<Unsigned>());
    assert_ne!(whole::<SignedTuple>(), whole::<UnsignedTuple>());
    assert_ne!(whole::<SignedVariant>(), whole::<UnsignedVariant>());
    assert_ne!(whole::<(Uuid, i32)>(), whole::<(Uuid, u32)>());
    assert_ne!(whole::<(u8, (Uuid, i32))>(), whole::<(u8, (Uuid, u32))>());
    assert_ne!(whole::<HashMap<Uuid, i32>>(), whole::<HashMap<Uuid, u32>>());
    assert_ne!(whole::<[(Uuid, i32); 12]>(), whole::<[(Uuid, u32); 12]>());
}

#[test]
fn numbers_texts_and_containers_are_kinds_of_their_own() {
    let shapes = [
        whole::<bool>(),
        whole::<i8>(),
        whole::<i16>(),
        whole::<i32>(),
        whole::<i64>(),
        whole::<i128>(),
        whole::<u8>(),
        whole::<u16>(),
        whole::<u32>(),
        whole::<u64>(),
        whole::<u128>(),
        whole::<f32>(),
        whole::<f64>(),
        whole::<char>(),
        whole::<String>(),
        whole::<serde_bytes::ByteBuf>(),
        whole::<()>(),
        whole::<Option<u8>>(),
        whole::<Vec<u8>>(),
        whole::<Vec<i8>>(),
        whole::<BTreeMap<u8, u8>>(),
        whole::<BTreeMap<u8, i8>>(),
        whole::<BTreeMap<i8, u8>>(),
        whole::<(u8,)>(),
        whole::<(u8, u8)>(),
        whole::<[u8; 3]>(),
    ];
    assert_eq!(HashSet::from(shapes).len(), shapes.len());
}

#[test]
fn containers_that_serialize_alike_are_alike() {
    assert_eq!(whole::<Vec<u8>>(), whole::<HashSet<u8>>());
    assert_eq!(whole::<BTreeMap<u8, u8>>(), whole::<HashMap<u8, u8>>());
    assert_eq!(whole::<(u8, u8)>(), whole::<[u8; 2]>());
    assert_eq!(whole::<Box<str>>(), whole::<String>());
}

traced! {
    struct Inner { a: u32 }
    struct Twin { a: u32 }
    struct OneTypeTwice { x: Inner, y: Inner }
    struct TwoTypes { x: Inner, y: Twin }
    struct Wrapper<T> { value: T }
    struct TwoWrappers { x: Wrapper<u32>, y: Wrapper<String> }
    struct TwoOtherWrappers { x: Wrapper<u32>, y: Wrapper<u32> }
    struct Pairs { x: (u8, Vec<u8>), y: u8 }
    struct OtherPairs { x: (u8, Vec<(u8,)>), y: u8 }
}

#[test]
fn a_type_used_twice_is_as_two_equal_types() {
    assert_eq!(whole::<OneTypeTwice>(), whole::<TwoTypes>());
}

#[test]
fn generics_of_one_name_are_several_types() {
    assert_ne!(whole::<Wrapper<u32>>(), whole::<Wrapper<String>>());
    assert_ne!(whole::<TwoWrappers>(), whole::<TwoOtherWrappers>());
    assert_ne!(whole::<Pairs>(), whole::<OtherPairs>());
}

#[test]
fn types_of_one_path_are_several_types() {
    // Both `Item`s have one `type_name`, and one list of fields.
    let (one, other) = {
        #[derive(Deserialize)]
        #[allow(dead_code)]
        struct Pair<A, B> {
            first: A,
            second: B,
        }
        fn of<A, B>(_: impl Fn() -> A, _: impl Fn() -> B) -> Shape
        where
            A: serde::de::DeserializeOwned + 'static,
            B: serde::de::DeserializeOwned + 'static,
        {
            whole::<Pair<A, B>>()
        }
        let first = {
            #[derive(Deserialize, Default)]
            #[allow(dead_code)]
            struct Item {
                value: u32,
            }
            Item::default
        };
        let second = {
            #[derive(Deserialize, Default)]
            #[allow(dead_code)]
            struct Item {
                value: i32,
            }
            Item::default
        };
        (of(first, first), of(first, second))
    };
    assert_ne!(one, other);
}

#[test]
fn a_shape_is_its_value() {
    let shape = whole::<User>();
    assert_eq!(Shape::from_value(shape.value()), shape);
    assert_ne!(shape.value(), 0);
    assert_eq!(Shape::untraced(), Shape::from_value(0));
    assert!(Shape::untraced().is_complete());
    let incomplete = Shape::of::<serde::de::IgnoredAny>();
    assert!(!incomplete.is_complete());
    assert_eq!(Shape::from_value(incomplete.value()), incomplete);
    assert!(format!("{shape:?}").starts_with("Shape(0x"));
    assert!(format!("{incomplete:?}").ends_with(", incomplete)"));
}
