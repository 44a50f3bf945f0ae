//! A loader whose future is not `Send` would make the caller's future unspawnable.
use std::rc::Rc;
use tiered::Tiered;

async fn read(cache: &Tiered) {
    let load = || async {
        let rc = Rc::new(1_u32);
        std::future::ready(()).await;
        Ok::<_, std::io::Error>(*rc)
    };
    let _ = cache.get_or_load("key", load).await;
}

fn main() {
    let _ = read;
}
