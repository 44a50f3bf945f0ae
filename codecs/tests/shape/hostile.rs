//! `Deserialize` implementations that misbehave: the tracer survives them and says so.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

use super::{partial, whole};

/// Implements `Deserialize` by one call with a visitor.
macro_rules! by_hand {
    ($type:ident, |$format:ident, $visitor:ident| $call:expr, { $($visit:tt)* }) => {
        #[derive(Debug, Default)]
        struct $type;

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>($format: D) -> Result<Self, D::Error> {
                struct $visitor;
                impl<'de> Visitor<'de> for $visitor {
                    type Value = $type;
                    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                        out.write_str("something")
                    }
                    $($visit)*
                }
                $call
            }
        }
    };
}

#[derive(Debug)]
struct Panics;

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        unreachable!("a panic on purpose")
    }
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Around<T> {
    before: Panics,
    after: T,
}

#[test]
fn a_panic_hides_only_what_is_behind_it() {
    partial::<Panics>();
    assert_ne!(partial::<Around<u8>>(), partial::<Around<i8>>());
    partial::<(Panics, u8)>();
}

by_hand!(WhileFed, |format, Asks| format.deserialize_map(Asks), {
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WhileFed, A::Error> {
        while map.next_entry::<u8, u8>()?.is_some() {}
        Ok(WhileFed)
    }
});

#[test]
fn a_map_is_fed_once() {
    whole::<WhileFed>();
}

by_hand!(Deaf, |format, Loops| format.deserialize_seq(Loops), {
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Deaf, A::Error> {
        loop {
            if let Ok(Some(7)) = seq.next_element::<u8>() {
                return Ok(Deaf);
            }
        }
    }
});

#[test]
fn a_loop_that_hears_no_error_is_ended() {
    // Its element is seen before it loops.
    whole::<Deaf>();
    partial::<(Deaf, u8)>();
}

by_hand!(InOrder, |format, Takes| format.deserialize_struct("InOrder", &["a", "b"], Takes), {
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<InOrder, A::Error> {
        let first: Option<String> = seq.next_element()?;
        if first.is_none_or(|text| text != "2000-01-01") {
            return Err(Error::custom("no date"));
        }
        seq.next_element::<u8>()?;
        Ok(InOrder)
    }
});

by_hand!(ByNumber, |format, Takes| format.deserialize_enum("ByNumber", &["a", "b"], Takes), {
    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, access: A) -> Result<ByNumber, A::Error> {
        use serde::de::VariantAccess;
        struct Index;
        impl<'de> serde::de::DeserializeSeed<'de> for Index {
            type Value = u64;
            fn deserialize<D: Deserializer<'de>>(self, format: D) -> Result<u64, D::Error> {
                u64::deserialize(format)
            }
        }
        match access.variant_seed(Index)? {
            (0, content) => content.unit_variant().map(|()| ByNumber),
            (1, content) => content.newtype_variant::<u8>().map(|_| ByNumber),
            _ => Err(Error::custom("no such variant")),
        }
    }
});

#[test]
fn a_struct_that_takes_no_names_is_traced_in_order() {
    whole::<InOrder>();
    whole::<ByNumber>();
}

by_hand!(Endless, |format, Takes| format.deserialize_tuple(usize::MAX, Takes), {
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Endless, A::Error> {
        while seq.next_element::<u8>()?.is_some() {}
        Ok(Endless)
    }
});

by_hand!(
    Idle,
    |format, Nothing| {
        let _ = (format, Nothing);
        Ok(Self)
    },
    {}
);

#[test]
fn what_has_no_end_is_cut() {
    partial::<Endless>();
    partial::<Idle>();
}

/// A type that holds another type of its own kind, without end.
struct Deeper<const N: u8>;

impl<'de, const N: u8> Deserialize<'de> for Deeper<N> {
    fn deserialize<D: Deserializer<'de>>(format: D) -> Result<Self, D::Error> {
        // The visitor carries a value, so it is never taken for one met before.
        struct Descends(#[allow(dead_code)] u8);
        impl<'de> Visitor<'de> for Descends {
            type Value = ();
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("more")
            }
            fn visit_some<D: Deserializer<'de>>(self, format: D) -> Result<(), D::Error> {
                format.deserialize_option(Descends(self.0))
            }
        }
        format.deserialize_option(Descends(N)).map(|()| Self)
    }
}

#[test]
fn depth_is_bounded() {
    partial::<Deeper<1>>();
}
