//! How much of the stack the deepest values take: a thread of tokio's has 2 MiB of it.

use std::thread;

use tiered_codecs::{Packing, Shape};

use super::deep::{Deep, KINDS, stack_of};
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

#[test]
fn a_types_shape_is_traced_in_a_small_thread() {
    let shape = in_a_small_thread(Shape::of::<Deep>);
    assert!(shape.is_complete());
}
