//! A type that changed between two builds never decodes an entry of its former self.

#![cfg(feature = "postcard")]

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tiered_codecs::{
    Codec, CodecFor, DecodeError, Postcard,
    envelope::{Expected, Header, Refusal, open, seal},
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

/// What a reader of `T` expects.
fn expected<T: Serialize + DeserializeOwned + 'static>() -> Expected {
    let codec = Codec::id(&Postcard);
    Expected { codec, schema: 1, shape: CodecFor::<T>::shape(&Postcard) }
}

/// Stores a `T` and reads it as a `U`.
fn read_as<T, U>(value: &T) -> Result<Result<U, DecodeError>, Refusal>
where
    T: Serialize + DeserializeOwned + 'static,
    U: Serialize + DeserializeOwned + 'static,
{
    let Expected { codec, schema, shape } = expected::<T>();
    let header = Header {
        codec,
        negative: false,
        schema,
        shape,
        fresh_ms: 1,
        stale_ms: 1,
        incarnation: 0,
        source_version: 0,
    };
    let sealed = seal(&header, b"key", |out| Codec::encode(&Postcard, value, out));
    let bytes = sealed.unwrap_or_default();
    let opened = open(&bytes, b"key", 4096)?;
    opened.header.accept(&expected::<U>())?;
    Ok(Codec::decode(&Postcard, opened.payload))
}

#[test]
fn a_type_of_the_same_shape_reads_it() {
    let account = Account { id: 1, balance: -5, owner: "ada".into(), ..Account::default() };
    let read: Same = read_as(&account).unwrap().unwrap();
    assert_eq!((read.id, read.balance, read.owner.as_str()), (1, -5, "ada"));
}

#[test]
fn a_type_that_changed_does_not() {
    fn refused<U: Serialize + DeserializeOwned + 'static>() {
        let there = read_as::<Account, U>(&Account::default()).err();
        assert_eq!(there, Some(Refusal::Shape), "{}", std::any::type_name::<U>());
    }
    fn refuses<T: Serialize + DeserializeOwned + Default + 'static>() {
        let back = read_as::<T, Account>(&T::default()).err();
        assert_eq!(back, Some(Refusal::Shape), "{}", std::any::type_name::<T>());
    }
    refused::<Lost>();
    refused::<Gained>();
    refused::<Moved>();
    refused::<Retyped>();
    refused::<MovedInside>();
    refused::<RetypedInside>();
    refuses::<Lost>();
    refuses::<Gained>();
    refuses::<Moved>();
    refuses::<Retyped>();
    refuses::<MovedInside>();
    refuses::<RetypedInside>();
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
