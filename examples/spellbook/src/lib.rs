//! Spellbook: a small web service whose reads go through a tiered cache.
//!
//! axum in front, a database behind (SQLite, or PostgreSQL), `tiered` between them. What to look
//! at, in the order of a request:
//!
//! | file | what it is |
//! |---|---|
//! | [`routes`] | the handlers: which path does what |
//! | [`input`] | what clients send, checked |
//! | [`list`] | the queries of lists, and the keys of their answers |
//! | [`spell`] | the entity, and the repository that the cache loads it from |
//! | [`change`] | writes: commit, then invalidate, whatever the client does meanwhile |
//! | [`store`], `open`, [`schema`] | the two databases |
//! | [`error`] | what clients are told when something fails |
//!
//! and around it [`config`], [`app`] (where the cache is built), [`health`], [`observe`] (logging
//! and metrics) and [`serve`] (the process, from its start to its shutdown).

pub mod app;
pub mod change;
pub mod config;
pub mod error;
pub mod health;
pub mod input;
pub mod list;
pub mod observe;
mod open;
pub mod routes;
pub mod schema;
pub mod serve;
pub mod spell;
pub mod store;
