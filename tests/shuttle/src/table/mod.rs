//! The shipped `tags/table.rs`, its mutants, and the scenarios over them.

mod scenarios;

use std::ops::Deref;

use crate::Subject;

/// A tag, as far as the table knows it.
#[derive(Debug)]
pub struct Tag(&'static str);

impl Deref for Tag {
    type Target = str;

    fn deref(&self) -> &str {
        self.0
    }
}

/// The surface of `table.rs`, of whichever copy, for one tag.
pub(crate) trait Counting: Send + Sync + 'static {
    /// The place of the tag, with its count.
    type Marks;

    fn new() -> Self;
    fn bump(&self);
    fn bumps(&self) -> u64;
    fn marks(&self) -> Self::Marks;
    fn stand(&self, marks: &Self::Marks) -> bool;
}

/// The modules of all copies. Each adapter stands beside the copy, where it sees what is private.
macro_rules! subjects {
    (shipped; $($mutant:ident $fault:literal;)*) => {
        #[allow(dead_code, unreachable_pub, reason = "the cache uses more of it than the scenarios")]
        mod shipped {
            include!(concat!(env!("OUT_DIR"), "/table/shipped.rs"));
            adapter!();
        }
        $(
            #[allow(dead_code, unused, clippy::all, reason = "it is wrong by intention")]
            mod $mutant {
                include!(concat!(env!("OUT_DIR"), "/table/", stringify!($mutant), ".rs"));
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
        pub(super) struct Copy(Table);

        impl super::Counting for Copy {
            type Marks = Option<Marks>;

            fn new() -> Self {
                Self(Table::default())
            }

            fn bump(&self) {
                self.0.bump("tag");
            }

            fn bumps(&self) -> u64 {
                self.0.bumps()
            }

            fn marks(&self) -> Option<Marks> {
                self.0.marks(&[Tag("tag")])
            }

            fn stand(&self, marks: &Option<Marks>) -> bool {
                marks.as_ref().is_none_or(|marks| self.0.stand(marks))
            }
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/table.rs"));
