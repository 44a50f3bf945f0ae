//! x
use tiered_models::fill;
fn main() {
    let a: Vec<usize> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let b = fill::Bounds {
        loaders: a[0],
        writers: a[1],
        late: a[2],
        ticks: a[3] as u8,
        restarts: a[4] as u8,
        tells_run: a[5] == 1,
    };
    match fill::check(b, 2) {
        Ok(f) => println!("{b:?} {f}"),
        Err(c) => println!("{b:?} {c}"),
    }
}
