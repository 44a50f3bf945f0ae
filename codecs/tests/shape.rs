//! The fingerprint: equal for one shape, different for any other, found for every type there is.

#[path = "shape/equality.rs"]
mod equality;
#[path = "shape/golden.rs"]
mod golden;
#[path = "shape/hostile.rs"]
mod hostile;
#[path = "shape/kinds.rs"]
mod kinds;
#[path = "shape/recursion.rs"]
mod recursion;

use serde::de::DeserializeOwned;
use tiered_codecs::Shape;

/// The fingerprint of a type that must be traced whole.
#[track_caller]
fn whole<T: DeserializeOwned + 'static>() -> Shape {
    let shape = Shape::of::<T>();
    assert!(shape.is_complete(), "{} is not traced whole", std::any::type_name::<T>());
    shape
}

/// The fingerprint of a type that cannot be traced whole.
#[track_caller]
fn partial<T: DeserializeOwned + 'static>() -> Shape {
    let shape = Shape::of::<T>();
    assert!(!shape.is_complete(), "{} is traced whole", std::any::type_name::<T>());
    shape
}
