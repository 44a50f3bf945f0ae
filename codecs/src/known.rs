//! What this process has learned of a type: found once, and kept as long as the process lives.
//!
//! Every entry asks for it, so a thread remembers where it is: the lock is for the first time only.

use std::{
    any::TypeId,
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{LazyLock, OnceLock, PoisonError, RwLock, atomic::AtomicUsize},
};

use crate::{CodecId, Shape, forms::Proven};

/// One more than the largest id of the codecs whose forms are looked into: this crate's own.
const CODECS: usize = 4;

/// What is known of one type.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) shape: OnceLock<Shape>,
    /// The forms that came back, by the codec's id.
    proven: [OnceLock<Box<Proven>>; CODECS],
    /// About how long a payload is, in bytes.
    pub(crate) usual_len: AtomicUsize,
}

impl Known {
    /// What is known of `T`.
    #[inline]
    pub(crate) fn of<T: 'static>() -> &'static Self {
        thread_local! {
            static NEAR: RefCell<ByType> = RefCell::default();
        }
        let id = TypeId::of::<T>();
        let near =
            |near: &RefCell<ByType>| *near.borrow_mut().entry(id).or_insert_with(|| find(id));
        // A thread that is ending has none.
        NEAR.try_with(near).unwrap_or_else(|_| find(id))
    }

    /// The proven forms of one codec; `None` for one from elsewhere.
    pub(crate) fn proven(&self, codec: CodecId) -> Option<&Proven> {
        let proven = self.proven.get(usize::from(codec.0))?;
        Some(proven.get_or_init(|| Box::new(Proven::new())))
    }
}

/// Of all threads. What is known of a type is never dropped: there are as many as a program has.
fn find(id: TypeId) -> &'static Known {
    static ALL: LazyLock<RwLock<ByType>> = LazyLock::new(RwLock::default);
    let known = ALL.read().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
    known.unwrap_or_else(|| {
        let mut all = ALL.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(id).or_insert_with(|| Box::leak(Box::default()))
    })
}

type ByType = HashMap<TypeId, &'static Known, BuildHasherDefault<TypeIdHasher>>;

/// A `TypeId` is a hash already: taken as it is.
#[derive(Default)]
struct TypeIdHasher(u64);

impl Hasher for TypeIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((*byte).into());
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = self.0.rotate_left(5) ^ hash;
    }
}
