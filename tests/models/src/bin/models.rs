//! x
use tiered_models::{bus, fill, holds, tags};
fn main() {
    let m = std::env::args().nth(1).unwrap();
    let a: Vec<usize> = std::env::args().skip(2).map(|a| a.parse().unwrap()).collect();
    match &*m {
        "fill" => {
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
        "tags" => {
            let b = tags::Bounds {
                loaders: a[0],
                writers: a[1],
                late: a[2] as u8,
                evictions: a[3] as u8,
                restarts: a[4] as u8,
            };
            match tags::check(b, 2) {
                Ok(f) => println!("{b:?} {f}"),
                Err(c) => println!("{b:?} {c}"),
            }
        }
        "holds" => {
            let b =
                holds::Bounds { loaders: a[0], writers: a[1], late: a[2], restarts: a[3] as u8 };
            match holds::check(b, 2) {
                Ok(f) => println!("{b:?} {f}"),
                Err(c) => println!("{b:?} {c}"),
            }
        }
        _ => {
            let b = bus::Bounds {
                publishers: a[0],
                readers: a[1],
                late: a[2] as u8,
                others: a[8] as u8,
                losses: a[3] as u8,
                restarts: a[4] as u8,
                delta: a[5] as u8,
                kept: a[6],
                piece: a[7],
            };
            match bus::check(b, 2) {
                Ok(f) => println!("{b:?} {f}"),
                Err(c) => println!("{b:?} {c}"),
            }
        }
    }
}
