//! A detached loader cannot borrow from its caller: it outlives it.
use tiered::Tiered;

async fn read(cache: &Tiered) {
    let local = String::new();
    let _ = cache.key("key").detached(|| async { Ok::<_, std::io::Error>(local.len()) }).await;
}

fn main() {
    let _ = read;
}
