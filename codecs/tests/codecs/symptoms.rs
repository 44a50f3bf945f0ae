//! Bugs that were, by their symptoms.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
    ser::SerializeTupleStruct,
};
use tiered_codecs::{CodecFor, DecodeError, Json, MessagePack, Packing, Postcard};

use super::deep::KINDS;
use crate::support::{KEY, Value, decode, encode, meta, read};

/// Stored and read it is itself, or not at all.
#[track_caller]
fn never_another<T: Value>(packing: &impl Packing, value: T) {
    let Ok(bytes) = packing.pack(&meta(), KEY, Some(&value)) else { return };
    let Ok(back) = read::<T>(packing, &bytes) else { return };
    assert_eq!(back, Some(value), "{packing:?} of {:02x?}", &bytes[64..]);
}

#[test]
fn json_reads_back_every_depth_it_writes() {
    // An enum's struct variant takes two of JSON's brackets.
    let kind = KINDS.iter().find(|kind| kind.name == "struct variant").unwrap();
    for depth in [63, 64, 120] {
        let value = kind.nest(depth);
        let bytes = encode(&Json, &value).unwrap();
        assert_eq!(decode(&Json, &bytes), Ok(value), "{depth} deep");
    }
}

#[test]
fn json_keeps_every_bit_of_a_flattened_f32() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Outer {
        #[serde(flatten)]
        inner: Inner,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        float: f32,
    }
    let value = Outer { inner: Inner { float: 7.038_531e-26 } };
    let bytes = encode(&Json, &value).unwrap();
    assert_eq!(decode(&Json, &bytes), Ok(value));
}

/// serde's derive leaves a tuple's field out without a word to the format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Skips(#[serde(skip_serializing_if = "Option::is_none")] Option<u8>, #[serde(default)] u8);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum SkipsInside {
    Tuple(#[serde(skip_serializing_if = "Option::is_none")] Option<u8>, #[serde(default)] u8),
}

#[test]
fn a_tuple_that_leaves_a_field_out_never_comes_back_as_another() {
    fn all(packing: &impl Packing) {
        never_another(packing, Skips(None, 1));
        never_another(packing, (Skips(None, 0), vec![0_u8]));
        never_another(packing, SkipsInside::Tuple(None, 1));
        never_another(packing, (SkipsInside::Tuple(None, 0), vec![0_u8]));
    }
    all(&Postcard);
    all(&MessagePack);
    all(&Json);
}

#[test]
fn a_tuple_that_leaves_either_of_two_fields_out_never_comes_back_as_another() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Either(
        #[serde(default, skip_serializing_if = "Option::is_none")] Option<u8>,
        #[serde(default, skip_serializing_if = "Option::is_none")] Option<u8>,
    );
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Inside {
        Either(
            #[serde(default, skip_serializing_if = "Option::is_none")] Option<u8>,
            #[serde(default, skip_serializing_if = "Option::is_none")] Option<u8>,
        ),
    }
    fn all(packing: &impl Packing) {
        for first in [Some(1), None] {
            for second in [Some(2), None] {
                never_another(packing, Inside::Either(first, second));
                never_another(packing, Either(first, second));
                never_another(packing, (Either(first, second), 0_u8, 0_u8));
            }
        }
    }
    all(&Postcard);
    all(&MessagePack);
    all(&Json);
}

/// Packed and read, it comes back.
#[track_caller]
fn comes_back<T: Value>(packing: &impl Packing, value: T) {
    let bytes = packing.pack(&meta(), KEY, Some(&value));
    let back = bytes.map(|bytes| read::<T>(packing, &bytes));
    assert_eq!(back, Ok(Ok(Some(value))), "{packing:?}");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point(u8, i8);

#[test]
fn a_tuple_that_is_read_through_a_buffer_comes_back() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Text(String),
        Point(Point),
        Three(u8, u8, u8),
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        inner: Inner,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        point: Point,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Point { point: Point },
    }
    fn both(packing: &impl Packing) {
        comes_back(packing, Untagged::Point(Point(1, -2)));
        comes_back(packing, Untagged::Three(1, 2, 3));
        comes_back(packing, Flat { inner: Inner { point: Point(1, -2) } });
        comes_back(packing, Tagged::Point { point: Point(1, -2) });
    }
    both(&MessagePack);
    both(&Json);
}

/// A tuple as some write it by hand: read as any sequence of two.
#[derive(Clone, Debug, PartialEq)]
struct ByHand(u8, u8);

impl Serialize for ByHand {
    fn serialize<S: Serializer>(&self, format: S) -> Result<S::Ok, S::Error> {
        let mut parts = format.serialize_tuple_struct("ByHand", 2)?;
        parts.serialize_field(&self.0)?;
        parts.serialize_field(&self.1)?;
        parts.end()
    }
}

impl<'de> Deserialize<'de> for ByHand {
    fn deserialize<D: Deserializer<'de>>(format: D) -> Result<Self, D::Error> {
        <(u8, u8)>::deserialize(format).map(|(first, second)| Self(first, second))
    }
}

#[test]
fn a_tuple_that_is_read_without_its_name_comes_back() {
    comes_back(&Postcard, ByHand(1, 2));
    comes_back(&MessagePack, ByHand(1, 2));
    comes_back(&Json, ByHand(1, 2));
}

#[test]
fn a_field_that_is_read_but_never_written_takes_no_other_fields_place() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Writes {
        #[serde(skip_serializing, default)]
        never: u8,
        always: u8,
    }
    never_another(&Postcard, (Writes { never: 0, always: 7 }, vec![1_u8, 9]));
    never_another(&MessagePack, (Writes { never: 0, always: 7 }, vec![1_u8, 9]));
    never_another(&Json, (Writes { never: 0, always: 7 }, vec![1_u8, 9]));
}

#[test]
fn every_codec_says_what_it_refuses_to_read() {
    fn says(packing: &impl Packing, bytes: &[u8], words: &str) {
        let there = decode::<super::deep::Deep>(packing, bytes).unwrap_err();
        let DecodeError::Payload(reason) = there else { panic!("{there:?}") };
        assert!(reason.contains(words), "{packing:?}: {reason}");
    }
    let words = "nested deeper than 128 levels";
    says(&Postcard, &KINDS[0].unclosed(&Postcard, 1000), words);
    says(&MessagePack, &KINDS[0].unclosed(&MessagePack, 3000), words);
    says(&Json, &KINDS[0].unclosed(&Json, 3000), words);
    // What the format itself refuses is said as it says it.
    says(&Postcard, b"", "end of buffer");
    says(&Json, b"", "EOF");
}

/// A text, or a list of such: it asks for a text, and takes a list if one is there.
#[derive(Debug)]
struct TextOrList;

impl<'de> Deserialize<'de> for TextOrList {
    fn deserialize<D: Deserializer<'de>>(format: D) -> Result<Self, D::Error> {
        struct Takes;
        impl<'de> Visitor<'de> for Takes {
            type Value = TextOrList;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a text or a list")
            }
            fn visit_str<E>(self, _: &str) -> Result<TextOrList, E> {
                Ok(TextOrList)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<TextOrList, A::Error> {
                while list.next_element::<TextOrList>()?.is_some() {}
                Ok(TextOrList)
            }
        }
        format.deserialize_string(Takes)
    }
}

#[test]
fn nesting_where_a_text_was_asked_for_is_bounded() {
    let lists = |depth| [&vec![0x91; depth][..], &[0xa0]].concat();
    assert!(decode::<TextOrList>(&MessagePack, &lists(100)).is_ok());
    assert!(decode::<TextOrList>(&MessagePack, &lists(200)).is_err());
    assert!(decode::<TextOrList>(&MessagePack, &lists(1 << 20)).is_err());
}

#[test]
fn a_variant_behind_a_skipped_one_never_comes_back_as_its_neighbour() {
    // serde counts a skipped variant when it writes the index, and not when it reads it.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Units {
        First,
        #[serde(skip)]
        Skipped,
        Second,
        Third,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Newtypes {
        First(u8),
        #[serde(skip_deserializing)]
        Skipped(u8),
        Second(u8),
        Third(u8),
    }
    fn all(packing: &impl Packing) {
        for value in [Units::First, Units::Skipped, Units::Second, Units::Third] {
            never_another(packing, value.clone());
            never_another(packing, vec![value, Units::Second]);
        }
        let all =
            [Newtypes::First(1), Newtypes::Skipped(1), Newtypes::Second(1), Newtypes::Third(1)];
        for value in all {
            never_another(packing, value.clone());
            never_another(packing, vec![value, Newtypes::Second(1)]);
        }
    }
    all(&Postcard);
    all(&MessagePack);
    all(&Json);
    comes_back(&Json, Units::Third);
}
