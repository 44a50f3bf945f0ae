//! A value that serde does not know cannot go through a cache with an L2.
use tiered::{Tiered, tiers::{Memory, Moka}};

struct NotSerde;

async fn read(cache: &Tiered) {
    let _ = cache.get::<NotSerde>("key").await;
}

fn main() {
    let cache = Tiered::new(Moka::new(1), Memory::new()).build().unwrap();
    drop(read(&cache));
}
