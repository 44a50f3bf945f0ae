//! Types that hold themselves, and types that hold many others many times.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::whole;

macro_rules! traced {
    ($($item:item)*) => {$(#[derive(Deserialize)] #[allow(dead_code)] $item)*};
}

traced! {
    struct List<T> { value: T, next: Option<Box<List<T>>> }
    struct Unrolled { value: u32, next: Option<Box<UnrolledNext>> }
    struct UnrolledNext { value: u32, next: Option<Box<Unrolled>> }
    struct Tree<T> { value: T, children: Vec<Tree<T>> }
    struct Named<T> { value: T, children: HashMap<String, Named<T>> }
    struct Newtype(Vec<Newtype>);
    enum FirstRecursive<T> { Both(Box<FirstRecursive<T>>, Box<FirstRecursive<T>>), Leaf(T) }
    struct Ping<T> { pong: Option<Box<Pong<T>>>, end: T }
    struct Pong<T> { ping: Vec<Ping<T>>, end: u8 }
    enum Statement<T> { Block(Vec<Statement<T>>), Do(Expression<T>) }
    enum Expression<T> { Run(Box<Statement<T>>), Add(Box<(Expression<T>, Expression<T>)>), Is(T) }
}

#[derive(Deserialize)]
#[serde(transparent)]
#[allow(dead_code)]
struct Transparent(Vec<Transparent>);

#[derive(Deserialize)]
#[serde(transparent)]
#[allow(dead_code)]
struct OnlyOptions(Option<Box<OnlyOptions>>);

#[test]
fn recursion_ends() {
    assert_ne!(whole::<List<u32>>(), whole::<List<i32>>());
    assert_ne!(whole::<Tree<u32>>(), whole::<Tree<i32>>());
    assert_ne!(whole::<Named<u32>>(), whole::<Named<i32>>());
    assert_ne!(whole::<FirstRecursive<u32>>(), whole::<FirstRecursive<i32>>());
    assert_ne!(whole::<Ping<u32>>(), whole::<Ping<i32>>());
    assert_ne!(whole::<Pong<u32>>(), whole::<Pong<i32>>());
    assert_ne!(whole::<Statement<u32>>(), whole::<Statement<i32>>());
    assert_ne!(whole::<Expression<u32>>(), whole::<Expression<i32>>());
    assert_ne!(whole::<Newtype>(), whole::<Transparent>());
    assert_ne!(whole::<Transparent>(), whole::<OnlyOptions>());
}

#[test]
fn recursive_values_are_made_up() {
    assert_ne!(whole::<(FirstRecursive<u8>, u8)>(), whole::<(FirstRecursive<u8>, i8)>());
    assert_ne!(whole::<(Statement<u8>, u8)>(), whole::<(Statement<u8>, i8)>());
    assert_ne!(whole::<(List<u8>, Tree<u8>, u8)>(), whole::<(List<u8>, Tree<u8>, i8)>());
}

#[test]
fn a_loop_is_as_long_as_it_looks() {
    assert_eq!(whole::<List<u32>>(), whole::<Unrolled>());
    assert_eq!(whole::<List<u32>>(), whole::<UnrolledNext>());
}

traced! {
    struct Pair<T> { left: Box<T>, right: Box<T> }
    struct Odd<T> { left: Box<T>, right: Box<T>, odd: u8 }
}

type Four<T> = Pair<Pair<Pair<Pair<T>>>>;
type Twenty<T> = Four<Four<Four<Four<Four<T>>>>>;

#[test]
fn sharing_is_no_work() {
    let start = Instant::now();
    assert_ne!(whole::<Twenty<u8>>(), whole::<Twenty<i8>>());
    assert_ne!(whole::<Twenty<u8>>(), whole::<Four<Odd<Four<u8>>>>());
    // A million leaves; generous, for this is run without optimization and beside other tests.
    assert!(start.elapsed() < Duration::from_secs(2));
}
