//! Lengths that are announced, and not there.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tiered_codecs::{Json, MessagePack, Postcard};

use super::payload;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Wide {
    numbers: [u64; 32],
    name: String,
}

#[test]
fn postcard_that_announces_two_thousand_million() {
    // 2^31, 2^32 and 2^64 - 1.
    for announced in [
        &b"\x80\x80\x80\x80\x08"[..],
        b"\x80\x80\x80\x80\x10",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ] {
        payload::<Vec<()>>(&Postcard, "announced", announced);
        payload::<Vec<[(); 32]>>(&Postcard, "announced", announced);
        payload::<Vec<[[[(); 32]; 32]; 32]>>(&Postcard, "announced", announced);
        payload::<Vec<Vec<()>>>(&Postcard, "announced", &announced.repeat(2));
        payload::<HashSet<()>>(&Postcard, "announced", announced);
        payload::<HashMap<(), ()>>(&Postcard, "announced", announced);
        payload::<BTreeMap<(), ()>>(&Postcard, "announced", announced);
        payload::<Vec<u8>>(&Postcard, "announced", announced);
        payload::<Vec<Wide>>(&Postcard, "announced", announced);
        payload::<HashMap<u64, Wide>>(&Postcard, "announced", announced);
        payload::<String>(&Postcard, "announced", announced);
        payload::<ByteBuf>(&Postcard, "announced", announced);
    }
}

#[test]
fn message_pack_that_announces_four_gibibytes() {
    let list = b"\xdd\xff\xff\xff\xff";
    payload::<Vec<()>>(&MessagePack, "a list announced", list);
    payload::<Vec<u8>>(&MessagePack, "a list announced", list);
    payload::<Vec<Wide>>(&MessagePack, "a list announced", list);
    payload::<HashSet<u64>>(&MessagePack, "a list announced", list);
    payload::<serde_json::Value>(&MessagePack, "a list announced", list);
    let map = b"\xdf\xff\xff\xff\xff";
    payload::<HashMap<u64, Wide>>(&MessagePack, "a map announced", map);
    payload::<BTreeMap<u64, Wide>>(&MessagePack, "a map announced", map);
    payload::<Wide>(&MessagePack, "a map announced", map);
    payload::<serde_json::Value>(&MessagePack, "a map announced", map);
    payload::<String>(&MessagePack, "a text announced", b"\xdb\xff\xff\xff\xff");
    payload::<ByteBuf>(&MessagePack, "bytes announced", b"\xc6\xff\xff\xff\xff");
    payload::<Vec<u8>>(&MessagePack, "bytes announced", b"\xc6\xff\xff\xff\xff");
    payload::<serde_json::Value>(
        &MessagePack,
        "an extension announced",
        b"\xc9\xff\xff\xff\xff\x01",
    );
}

#[test]
fn json_cannot_announce_and_is_read_no_further_than_it_goes() {
    // A number of any length, and a list and a text that do not end.
    payload::<u64>(&Json, "a number of 10^6 digits", &vec![b'9'; 1_000_000]);
    payload::<f64>(
        &Json,
        "an exponent of 10^5 digits",
        &[&b"1e"[..], &vec![b'9'; 100_000]].concat(),
    );
    payload::<Vec<()>>(&Json, "a list without an end", b"[null,null,null");
    payload::<String>(&Json, "a text without an end", b"\"text");
    payload::<HashMap<String, Wide>>(&Json, "a map without an end", b"{\"a\":");
}

/// What takes no bytes is bounded for all lists of it together.
#[test]
fn many_lists_of_nothing() {
    let inner = b"\x80\x80\x04".repeat(10_000);
    let bytes = [&b"\x90\x4e"[..], &inner].concat();
    payload::<Vec<Vec<()>>>(&Postcard, "10^4 lists of 2^16 units", &bytes);
}
