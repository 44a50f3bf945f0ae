//! The shipped `bus/view.rs`, its mutants, and the scenarios over them.

mod scenarios;

use crate::Subject;

/// The surface of `view.rs`, of whichever copy. Moments are seconds after the start, and Δ is two of them.
pub(crate) trait Viewing: Send + Sync + 'static {
    /// The view of so many logs.
    fn new(logs: usize) -> Self;
    fn void(&self, log: usize);
    fn forget(&self);
    fn prove(&self, log: usize, as_of: u64);
    fn generation(&self) -> u64;
    /// The generation of what is proven, and until when.
    fn proof(&self) -> (u64, u64);
}

/// The modules of all copies. Each adapter stands beside the copy, where it sees what is private.
macro_rules! subjects {
    (shipped; $($mutant:ident $fault:literal;)*) => {
        #[allow(dead_code, unreachable_pub, reason = "the cache uses more of it than the scenarios")]
        mod shipped {
            include!(concat!(env!("OUT_DIR"), "/view/shipped.rs"));
            adapter!();
        }
        $(
            #[allow(dead_code, unused, clippy::all, reason = "it is wrong by intention")]
            mod $mutant {
                include!(concat!(env!("OUT_DIR"), "/view/", stringify!($mutant), ".rs"));
                adapter!();
            }
        )*

        /// The shipped file.
        pub fn shipped() -> Subject {
            let scenarios = scenarios::all::<shipped::Copy>();
            Subject { name: "shipped", fault: "", scenarios }
        }

        /// Its mutants.
        pub fn mutants() -> Vec<Subject> {
            vec![$(Subject {
                name: stringify!($mutant),
                fault: $fault,
                scenarios: scenarios::all::<$mutant::Copy>(),
            }),*]
        }
    };
}

macro_rules! adapter {
    () => {
        pub(super) struct Copy(View);

        impl super::Viewing for Copy {
            fn new(logs: usize) -> Self {
                Self(View::new(logs, Duration::from_secs(2), Instant::now()))
            }

            fn void(&self, log: usize) {
                self.0.void(log);
            }

            fn forget(&self) {
                self.0.forget();
            }

            fn prove(&self, log: usize, as_of: u64) {
                self.0.prove(log, self.0.start + Duration::from_secs(as_of));
            }

            fn generation(&self) -> u64 {
                self.0.generation()
            }

            fn proof(&self) -> (u64, u64) {
                let Proof { generation, until } = self.0.proof();
                (generation, (until - self.0.start).as_secs())
            }
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/view.rs"));
