//! A type that changed between two builds never decodes an entry of its former self.

#![cfg(all(feature = "postcard", feature = "messagepack", feature = "json"))]
#![allow(clippy::unwrap_used, reason = "a test")]

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tiered_codecs::{
    Codec, CodecFor, DecodeError, Json, MessagePack, OldValue, Packing, Postcard,
    envelope::{Meta, Refusal},
};

macro_rules! stored {
    ($($item:item)*) => {$(
        #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
        $item
    )*};
}

stored! {
    struct Account { id: u64, balance: i64, owner: String, limits: Limits }
    struct Limits { daily: u32, weekly: u32 }
    struct Same { id: u64, balance: i64, owner: String, limits: SameLimits }
    struct SameLimits { daily: u32, weekly: u32 }
    struct Lost { id: u64, balance: i64, owner: String }
    struct Gained { id: u64, balance: i64, owner: String, limits: Limits, note: Option<String> }
    struct Moved { balance: i64, id: u64, owner: String, limits: Limits }
    struct Retyped { id: u64, balance: u64, owner: String, limits: Limits }
    struct MovedInside { id: u64, balance: i64, owner: String, limits: MovedLimits }
    struct MovedLimits { weekly: u32, daily: u32 }
    struct RetypedInside { id: u64, balance: i64, owner: String, limits: RetypedLimits }
    struct RetypedLimits { daily: u32, weekly: i32 }
}

/// What may be stored and read.
trait Stored: Serialize + DeserializeOwned + 'static {}
impl<T: Serialize + DeserializeOwned + 'static> Stored for T {}

/// An entry of a `T`.
fn entry<T: Stored>(packing: &impl Packing, value: Option<&T>) -> Vec<u8> {
    let meta = Meta { schema: 1, fresh_ms: 1, stale_ms: 1, ..Meta::default() };
    packing.pack(&meta, b"key", value).unwrap()
}

/// Stores a `T` and reads it as a `U`.
fn read_as<T: Stored, U: Stored>(packing: &impl Packing, value: &T) -> Result<U, DecodeError> {
    let bytes = entry(packing, Some(value));
    let unpacked = CodecFor::<U>::unpack(packing, &bytes, b"key", 4096)?;
    unpacked.header.accept(1, CodecFor::<U>::shape(packing))?;
    CodecFor::<U>::decode(packing, &unpacked)
}

/// Stores a `T`, or nothing, and looks for a former `O` in it.
fn old<T: Stored, O: Stored>(packing: &impl Packing, value: Option<&T>) -> Option<O> {
    let bytes = entry(packing, value);
    let unpacked = CodecFor::<T>::unpack(packing, &bytes, b"key", 4096).unwrap();
    CodecFor::<T>::old(packing, &unpacked).read::<O>()
}

fn account() -> Account {
    Account { id: 1, balance: -5, owner: "ada".into(), ..Account::default() }
}

#[test]
fn a_type_of_the_same_shape_reads_it() {
    fn reads(packing: impl Packing) {
        let read: Same = read_as(&packing, &account()).unwrap();
        assert_eq!((read.id, read.balance, read.owner.as_str()), (1, -5, "ada"));
    }
    reads(Postcard);
    reads(MessagePack);
    reads(Json);
}

#[test]
fn a_type_that_changed_does_not() {
    fn refused<U: Stored + Default + std::fmt::Debug>() {
        fn both<U: Stored + Default + std::fmt::Debug>(packing: impl Packing) {
            let name = std::any::type_name::<U>();
            let shape = DecodeError::Refused(Refusal::Shape);
            assert_eq!(
                read_as::<Account, U>(&packing, &account()).err(),
                Some(shape.clone()),
                "{name}"
            );
            assert_eq!(read_as::<U, Account>(&packing, &U::default()).err(), Some(shape), "{name}");
        }
        both::<U>(Postcard);
        both::<U>(MessagePack);
        both::<U>(Json);
    }
    refused::<Lost>();
    refused::<Gained>();
    refused::<Moved>();
    refused::<Retyped>();
    refused::<MovedInside>();
    refused::<RetypedInside>();
}

#[test]
fn postcard_alone_would_have_read_it() {
    // The reason for the fingerprint: these bytes decode without a complaint, into another account.
    let account = Account { id: 1, balance: 2, ..Account::default() };
    let mut bytes = Vec::new();
    Codec::encode(&Postcard, &account, &mut bytes).unwrap();
    let moved: Moved = Codec::decode(&Postcard, &bytes).unwrap();
    assert_ne!((moved.id, moved.balance), (1, 2));
}

#[test]
fn an_older_value_is_read_as_what_it_was() {
    fn reads(packing: impl Packing) {
        assert_eq!(old::<_, Account>(&packing, Some(&account())), Some(account()));
        assert_eq!(old::<_, Same>(&packing, Some(&account())).map(|same| same.id), Some(1));
    }
    reads(Postcard);
    reads(MessagePack);
    reads(Json);
}

#[test]
fn an_older_value_is_read_as_nothing_else() {
    fn refuses(packing: impl Packing) {
        // Every one of these would decode from the bytes by name, or by place.
        assert_eq!(old::<_, Lost>(&packing, Some(&account())), None);
        assert_eq!(old::<_, Moved>(&packing, Some(&account())), None);
        assert_eq!(old::<_, Account>(&packing, None::<&Account>), None, "a negative entry");
    }
    refuses(Postcard);
    refuses(MessagePack);
    refuses(Json);
}

#[test]
fn a_negative_entry_holds_no_older_value_even_of_a_type_without_bytes() {
    // Its payload is empty, and so is postcard's unit.
    assert_eq!(old::<(), ()>(&Postcard, Some(&())), Some(()));
    assert_eq!(old::<(), ()>(&Postcard, None), None);
}
