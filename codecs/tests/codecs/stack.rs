//! How much of the stack the deepest values take: a thread of tokio's has 2 MiB of it.

use std::thread;

use serde::{Deserialize, Deserializer, Serialize};
use tiered_codecs::{Json, MessagePack, Packing, Postcard, Shape};

use super::deep::{Deep, KINDS, note, stack_of};
use crate::support::{decode, encode, every_packing};

/// What a thread of tokio's has.
const STACK: usize = 2 << 20;
/// What may be taken of it by the deepest value; the rest is for who calls.
const TAKEN: usize = 1 << 20;

every_packing! { the_deepest_values_leave_most_of_the_stack }

/// Runs `run` in a thread with a stack like that of tokio's.
fn in_a_small_thread<R: Send + 'static>(run: impl FnOnce() -> R + Send + 'static) -> R {
    thread::Builder::new().stack_size(STACK).spawn(run).unwrap().join().unwrap()
}

fn the_deepest_values_leave_most_of_the_stack(packing: &impl Packing) {
    let id = packing.id().0;
    for kind in &KINDS {
        let packing = packing.clone();
        let (written, read, hostile) = in_a_small_thread(move || {
            let value = kind.nest(120 / kind.levels);
            let mut bytes = Vec::new();
            let written = stack_of(|| bytes = encode(&packing, &value).unwrap_or_default());
            let read = stack_of(|| drop(decode::<Deep>(&packing, &bytes)));
            let bytes = kind.unclosed(&packing, 1 << 16);
            let hostile = stack_of(|| assert!(decode::<Deep>(&packing, &bytes).is_err()));
            (written, read, hostile)
        });
        println!(
            "codec {}, {}: writing 120 levels takes {} KiB, reading them {} KiB, refusing more {} KiB",
            id,
            kind.name,
            written >> 10,
            read >> 10,
            hostile >> 10
        );
        assert!(written.max(read).max(hostile) < TAKEN, "{}", kind.name);
    }
}

/// A variant with as many fields as large types have: each takes its place on the stack.
#[derive(Debug, Default, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "that is what it is for")]
enum Broad {
    Deeper {
        texts: [String; 8],
        numbers: [Option<u64>; 16],
        a: String,
        b: String,
        c: String,
        d: String,
        e: Option<String>,
        f: Option<String>,
        g: Vec<u8>,
        h: Vec<u8>,
        i: f64,
        j: u128,
        #[serde(deserialize_with = "noted")]
        inner: Box<Broad>,
    },
    #[default]
    Leaf,
}

fn noted<'de, D: Deserializer<'de>>(format: D) -> Result<Box<Broad>, D::Error> {
    note();
    Box::deserialize(format)
}

fn broad(inner: Broad) -> Broad {
    Broad::Deeper {
        texts: Default::default(),
        numbers: [None; 16],
        a: String::new(),
        b: String::new(),
        c: String::new(),
        d: String::new(),
        e: None,
        f: None,
        g: Vec::new(),
        h: Vec::new(),
        i: 0.5,
        j: 1,
        inner: Box::new(inner),
    }
}

/// Where a level takes much of the stack, as in an unoptimized build, fewer are read.
#[test]
fn large_types_leave_some_of_the_stack_too() {
    fn taken(packing: impl Packing) {
        let id = packing.id().0;
        let (read, taken) = in_a_small_thread(move || {
            let level = encode(&packing, &broad(broad(Broad::Leaf))).unwrap();
            let inner = encode(&packing, &broad(Broad::Leaf)).unwrap();
            let at = level.windows(inner.len()).rposition(|part| part == inner).unwrap();
            let hostile = level[..at].repeat(1000);
            let read = |wraps: usize| {
                let value = (0..wraps).fold(Broad::Leaf, |inner, _| broad(inner));
                let bytes = encode(&packing, &value).ok()?;
                decode::<Broad>(&packing, &bytes).ok().map(|_| wraps)
            };
            let most = (0..=120).rev().find_map(read);
            (most, stack_of(|| assert!(decode::<Broad>(&packing, &hostile).is_err())))
        });
        println!("codec {id}: {read:?} levels of a large type, of {} KiB", taken >> 10);
        assert!(read >= Some(32), "codec {id} reads {read:?}");
        assert!(taken < STACK * 3 / 4, "codec {id} takes {taken}");
    }
    taken(Postcard);
    taken(MessagePack);
    taken(Json);
}

#[test]
fn a_types_shape_is_traced_in_a_small_thread() {
    let shape = in_a_small_thread(Shape::of::<Deep>);
    assert!(shape.is_complete());
}
