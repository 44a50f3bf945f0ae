//! Nesting ten million deep, and nested lists that each announce as much as they may.

use std::collections::HashMap;

use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tiered_codecs::{Json, MessagePack, Packing, Postcard};

use super::{payload, payload_within};

const DEEP: usize = 10_000_000;

#[derive(Debug, Serialize, Deserialize)]
struct Tree(Vec<Tree>);

#[derive(Debug, Serialize, Deserialize)]
enum Variants {
    Newtype(Box<Variants>),
    Struct { inner: Box<Variants> },
    Option(Option<Box<Variants>>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    List(Vec<Untagged>),
    Map(HashMap<String, Untagged>),
    Number(u8),
}

#[derive(Debug, Serialize, Deserialize)]
struct Known {
    known: u8,
}

#[test]
fn json_ten_million_deep() {
    let lists = vec![b'['; DEEP];
    payload::<serde_json::Value>(&Json, "10^7 times [", &lists);
    payload::<Tree>(&Json, "10^7 times [", &lists);
    payload::<Untagged>(&Json, "10^7 times [", &lists);
    let maps = br#"{"a":"#.repeat(DEEP / 5);
    payload::<serde_json::Value>(&Json, "2 * 10^6 maps", &maps);
    payload::<Untagged>(&Json, "2 * 10^6 maps", &maps);
    let variants = br#"{"Newtype":"#.repeat(DEEP / 11);
    payload::<Variants>(&Json, "10^6 variants", &variants);
    let variants = br#"{"Struct":{"inner":"#.repeat(DEEP / 19);
    payload::<Variants>(&Json, "5 * 10^5 struct variants", &variants);
}

#[test]
fn json_ten_million_deep_in_what_is_ignored() {
    let lists = vec![b'['; DEEP];
    payload::<IgnoredAny>(&Json, "10^7 times [", &lists);
    let unknown = [&br#"{"unknown":"#[..], &lists].concat();
    payload::<Known>(&Json, "10^7 times [ in an unknown field", &unknown);
}

#[test]
fn message_pack_ten_million_deep() {
    let lists = vec![0x91; DEEP];
    payload::<serde_json::Value>(&MessagePack, "10^7 lists", &lists);
    payload::<Tree>(&MessagePack, "10^7 lists", &lists);
    payload::<Untagged>(&MessagePack, "10^7 lists", &lists);
    payload::<IgnoredAny>(&MessagePack, "10^7 lists", &lists);
    let variants = b"\x81\xa7Newtype".repeat(DEEP / 9);
    payload::<Variants>(&MessagePack, "10^6 variants", &variants);
    let ignored = [&b"\x82\xa1x"[..], &lists].concat();
    payload::<Known>(&MessagePack, "10^7 lists in an unknown field", &ignored);
}

#[test]
fn postcard_ten_million_deep() {
    payload::<Variants>(&Postcard, "10^7 newtype variants", &vec![0; DEEP]);
    payload::<Variants>(&Postcard, "10^7 struct variants", &vec![1; DEEP]);
    payload::<Variants>(&Postcard, "10^7 options", &[2, 1].repeat(DEEP / 2));
    payload::<Tree>(&Postcard, "10^7 lists", &vec![1; DEEP]);
}

/// A wide element: a list of few of these is long.
#[derive(Debug, Serialize, Deserialize)]
struct Wide {
    pad: [u64; 16],
    inner: Vec<Wide>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Maps(HashMap<u8, Maps>);

/// Every level reserves for what it announces before its first element comes: all of them at once.
/// Together they get what an honest list of one byte an element would.
#[test]
fn nested_lists_that_announce_all_there_may_be() {
    fn claims<T: DeserializeOwned>(packing: &impl Packing, level: &[u8]) {
        let bytes = level.repeat((1 << 16) / level.len());
        let honest = bytes.len() * size_of::<T>();
        payload_within::<T>(packing, "64 KiB of nested claims", &bytes, honest);
    }
    // Each level announces half as many elements as there are bytes.
    claims::<Tree>(&Postcard, b"\x80\x80\x02");
    claims::<Maps>(&Postcard, b"\x80\x80\x02\x00");
    claims::<Wide>(&Postcard, &[&[0; 16][..], b"\x80\x80\x02"].concat());
    claims::<Tree>(&MessagePack, b"\xdd\x00\x00\x80\x00");
    claims::<Untagged>(&MessagePack, b"\xdd\x00\x00\x80\x00");
    claims::<serde_json::Value>(&MessagePack, b"\xdd\x00\x00\x80\x00");
}
