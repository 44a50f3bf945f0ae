//! How it fits: what a service asks of a handle, at compile time and by its logs.

use tiered::{
    Postcard, Repository, Request, Tiered,
    tiers::{Memory, Moka},
};

use crate::support::DbDown;

fn is_handle<T: Clone + Send + Sync + 'static>() {}
fn is_send<T: Send>(value: T) -> T {
    value
}

/// A handle is nameable in a struct field with no type parameter.
#[derive(Clone, Debug)]
struct AppState {
    cache: Tiered,
}

#[tokio::test]
async fn handles_are_shared_between_threads_and_futures_are_send() {
    is_handle::<Tiered>();
    is_handle::<Tiered<Postcard>>();
    is_handle::<Tiered<tiered::codecs::NoCodec>>();
    is_handle::<Repository<AppState>>();
    let cache = Tiered::new(Moka::new(10), Memory::new()).codec(Postcard).build().unwrap();
    let state = AppState { cache };
    let cache = &state.cache;
    let local = String::from("borrowed by the loader");
    let load = || async { Ok::<_, DbDown>(local.clone()) };
    is_send(cache.get_or_load("k", load)).await.unwrap();
    is_send(cache.get_or_load_opt("k", || async { load().await.map(Some) })).await.unwrap();
    is_send(cache.get::<String>("k")).await.unwrap();
    is_send(cache.key("k").detached(|| async { Ok::<_, DbDown>(1_u8) })).await.unwrap();
    let _ = is_send(cache.set("k", 1_u8)).await.unwrap();
    let _ = is_send(cache.invalidate("k")).await.unwrap();
    let many = async |ids: Vec<u32>| Ok::<_, DbDown>(ids.into_iter().map(|id| (id, local.clone())));
    is_send(cache.get_or_load_many([1, 2], many)).await;
    is_send(cache.get_many::<String, _>([1, 2])).await;
    let _ = is_send(cache.set_many([(1, 1_u8)])).await;
    let _ = is_send(cache.invalidate_many([1, 2])).await;
    is_send(cache.contains("k")).await.unwrap();
    is_send(cache.ping()).await.unwrap();
    is_send(cache.health()).await;
    is_send(cache.shutdown()).await;
    let _ = is_send::<Request<'_, Postcard>>(cache.key("k"));
}

#[test]
fn building_touches_neither_runtime_nor_network() {
    use tiered::tiers::Redis;
    // Port 1 answers nobody; outside a runtime.
    let redis = Redis::new("redis://127.0.0.1:1/").unwrap();
    Tiered::new(Moka::new(10), redis).build().unwrap();
}

#[test]
fn what_must_not_compile_does_not() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
