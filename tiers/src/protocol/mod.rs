//! The coherence protocol, without sockets: states, the steps between them, and nothing that waits.
//!
//! What is here decides; others carry its decisions over a network. The same code runs in three places: in the
//! embedded tier and the embedded bus, in the engine that listens to a bus, and in the models that try every
//! order of steps, crashes and lost messages. Time is whatever is ordered, so that a model can count in ticks.
//!
//! | what | stands for |
//! |---|---|
//! | [`Record`] | one key on a server: its value, the lease on it, the holds of its writers |
//! | [`Log`] | one log of a bus: a chain of messages, and its head |
//! | [`Generation`], [`Change`], [`Revealing`] | what entries of a tag depend on, and in which order that is looked at |
//! | [`Follower`] | a process that follows a log: what it has seen, and until when that is proven |
//!
//! Redis does the steps of [`Record`] and [`Log`] in scripts; the conformance suites hold them to the same
//! answers. Rejected: one model beside the code. It would prove itself.

mod follower;
mod log;
mod record;
mod tags;

pub use self::{
    follower::{Ask, Follower, Step, Void},
    log::{Link, Log, Polled, Position},
    record::{Granted, HoldEnd, Record},
    tags::{Change, Generation, Look, Revealing},
};
