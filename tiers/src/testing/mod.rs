//! Real servers for tests: started on a free port, ended with the test, killed or frozen at will;
//! and the conformance suites, which any tier can run.
//!
//! A test against a fake proves things about the fake. A missing server program is an error that
//! says how to install it, never a reason to skip.

mod admin;
mod conformance;
mod faulty;
mod faulty_bus;
mod memcached;
mod process;
mod proxy;
mod redis;
mod redis_cluster;
mod redis_sentinel;

pub use self::{
    conformance::{bus_conforms, local_tier_conforms, remote_tier_conforms},
    faulty::{Fault, Faulty, Plan},
    faulty_bus::{BusFault, FaultyBus},
    memcached::MemcachedServer,
    proxy::{LinkFault, Proxy},
    redis::{RedisServer, RedisServerBuilder},
    redis_cluster::RedisCluster,
    redis_sentinel::RedisSentinel,
};
