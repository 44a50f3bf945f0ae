//! A value as the journal has it: in the envelope that L2 would get, so that what is read back is checked, and is of
//! this program's version, or is not read at all.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use tiered_codecs::{CodecFor, EncodeError, envelope::Meta};
use tiered_tiers::Record;

/// How keys and values are packed and read, for a handle that does not know that they can be.
pub(super) struct Forms<K, V, C> {
    pub(super) pack_id: fn(&C, &K, &[u8]) -> Result<Bytes, EncodeError>,
    pub(super) read: Read<K, V, C>,
}

/// Reads a record of this schema version, of which no part is longer than the limit.
type Read<K, V, C> = fn(&C, &Record, u32, usize) -> Option<(K, V)>;

impl<K: 'static, V: 'static, C: CodecFor<K> + CodecFor<V>> Forms<K, V, C> {
    pub(super) fn new() -> Self {
        Self { pack_id: pack::<K, C>, read: read::<K, V, C> }
    }
}

/// The database's key, bound to the cache's.
fn pack<K: 'static, C: CodecFor<K>>(codec: &C, id: &K, wire: &[u8]) -> Result<Bytes, EncodeError> {
    let pack = AssertUnwindSafe(|| codec.pack(&Meta::default(), wire, Some(id)));
    let packed =
        catch_unwind(pack).unwrap_or_else(|_| Err(EncodeError("its Serialize panicked".into())));
    packed.map(Bytes::from)
}

/// What a record holds, if it is whole and of this version.
fn read<K: 'static, V: 'static, C: CodecFor<K> + CodecFor<V>>(
    codec: &C,
    record: &Record,
    schema: u32,
    limit: usize,
) -> Option<(K, V)> {
    let id = open::<K, C>(codec, &record.id, &record.key, 0, limit)?;
    let value = open::<V, C>(codec, &record.value, &record.key, schema, limit)?;
    Some((id, value))
}

fn open<T: 'static, C: CodecFor<T>>(
    codec: &C,
    bytes: &[u8],
    wire: &[u8],
    schema: u32,
    limit: usize,
) -> Option<T> {
    let unpacked = codec.unpack(bytes, wire, limit).ok()?;
    unpacked.header.accept(schema, codec.shape()).ok()?;
    if unpacked.header.negative {
        return None;
    }
    // A type's own Deserialize may panic; that is no more than a record that cannot be read.
    catch_unwind(AssertUnwindSafe(|| codec.decode(&unpacked))).ok()?.ok()
}
