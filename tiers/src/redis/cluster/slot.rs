//! The slot of a key, as the Redis Cluster specification defines it: CRC16 (XMODEM) modulo 16,384, of
//! what stands between the first `{` and the next `}`, if anything does, else of the whole key.

/// How many slots there are.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a key on the wire, be it a value's or a lease's.
pub(super) fn slot(key: &[u8]) -> u16 {
    crc16(tag(key)) % SLOTS
}

fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else { return key };
    let rest = key.get(open + 1..).unwrap_or_default();
    match rest.iter().position(|byte| *byte == b'}') {
        None | Some(0) => key,
        Some(close) => rest.get(..close).unwrap_or(key),
    }
}

/// The remainders of all bytes, so that a long key costs a look-up for each byte.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        let [high, _] = crc.to_be_bytes();
        (crc << 8) ^ TABLE.get(usize::from(high ^ byte)).copied().unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::{super::super::script::lease_key, *};

    #[test]
    fn it_is_the_slot_that_the_specification_says() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot(b"foo"), 12182);
        assert_eq!(slot(b""), 0);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
        assert_eq!(slot(b"foo{bar"), crc16(b"foo{bar") % SLOTS);
    }

    #[test]
    fn a_lease_is_in_the_slot_of_its_value() {
        for key in [b"shop:user:1".as_slice(), b"", b"a%20b", b"\xff\0", &[b'k'; 300]] {
            assert_eq!(slot(&lease_key(key)), slot(key), "{key:?}");
        }
        assert_ne!(lease_key(b""), lease_key(b"3560"), "two keys with one lease");
    }
}
