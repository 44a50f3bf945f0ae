//! Frames of zstd: little that becomes much, and lies about how much it becomes.

use std::io::Write;

use tiered_codecs::{DecodeError, Json, Packing, Postcard, Zstd};
use zstd::stream::write::Encoder;

use super::{compressed, entry};

/// `len` zeros, compressed, with their length in the frame's header or without.
fn zeros(len: u64, tells: bool) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), 1).unwrap();
    encoder.set_pledged_src_size(tells.then_some(len)).unwrap();
    encoder.include_contentsize(tells).unwrap();
    let block = vec![0; 1 << 20];
    let mut left = len;
    while left > 0 {
        let part = left.min(block.len() as u64);
        encoder.write_all(&block[..part as usize]).unwrap();
        left -= part;
    }
    encoder.finish().unwrap()
}

/// Has the frame claim another length, of as many bytes as it has: four, behind magic and descriptor
/// and, if there is one, the window.
fn claiming(mut frame: Vec<u8>, len: u32) -> Vec<u8> {
    let descriptor = frame[4];
    assert_eq!(descriptor >> 6, 2, "a length of four bytes");
    let place = if descriptor & 0x20 != 0 { 5 } else { 6 };
    frame[place..place + 4].copy_from_slice(&len.to_le_bytes());
    frame
}

const MIB: usize = 1 << 20;

#[test]
fn half_a_gibibyte_of_zeros_is_refused_for_what_it_says() {
    let frame = zeros(512 << 20, true);
    println!("{} bytes", frame.len());
    for (packing, limit) in
        [(Zstd::new(Postcard), 32 * MIB), (Zstd::new(Postcard).max_expanded(MIB), MIB)]
    {
        let bytes = compressed::<Vec<u8>>(&packing, &frame);
        // It is refused before it takes any of it.
        let there = entry::<Vec<u8>>(&packing, "512 MiB of zeros", 0, &bytes);
        assert_eq!(there, DecodeError::TooLarge { limit });
    }
    let bytes = compressed::<Vec<u8>>(&Json, &frame);
    let there = entry::<Vec<u8>>(&Json, "512 MiB of zeros, by a codec alone", 0, &bytes);
    assert_eq!(there, DecodeError::TooLarge { limit: 32 * MIB });
}

#[test]
fn half_a_gibibyte_of_zeros_is_refused_for_what_it_does_not_say() {
    let frame = zeros(512 << 20, false);
    let bytes = compressed::<Vec<u8>>(&Postcard, &frame);
    let there = entry::<Vec<u8>>(&Postcard, "512 MiB of zeros, untold", 0, &bytes);
    assert_eq!(there.label(), "compression", "{there}");
}

#[test]
fn half_a_gibibyte_of_zeros_is_refused_for_what_it_lies() {
    let frame = zeros(512 << 20, true);
    for (packing, limit) in [
        (Zstd::new(Postcard), 32 * MIB),
        (Zstd::new(Postcard).max_expanded(4 * MIB), 4 * MIB),
        (Zstd::new(Postcard).max_expanded(64 * 1024), 64 * 1024),
    ] {
        for told in [limit as u32, 1000, 0] {
            let bytes = compressed::<Vec<u8>>(&packing, &claiming(frame.clone(), told));
            let what = format!("512 MiB of zeros, told to be {told} of at most {limit}");
            let there = entry::<Vec<u8>>(&packing, &what, told as usize, &bytes);
            assert_eq!(there.label(), "compression", "{there}");
        }
    }
}

#[test]
fn few_zeros_that_claim_to_be_many_are_refused() {
    let frame = zeros(100_000, true);
    let claims_too_much = claiming(frame.clone(), u32::MAX);
    let bytes = compressed::<Vec<u8>>(&Postcard, &claims_too_much);
    let there = entry::<Vec<u8>>(&Postcard, "100 KB told to be 4 GiB", 0, &bytes);
    assert_eq!(there, DecodeError::TooLarge { limit: 32 * MIB });
    let claims_the_limit = claiming(frame, 32 << 20);
    let bytes = compressed::<Vec<u8>>(&Postcard, &claims_the_limit);
    let there = entry::<Vec<u8>>(&Postcard, "100 KB told to be 32 MiB", 32 * MIB, &bytes);
    assert_eq!(there.label(), "compression", "{there}");
}

#[test]
fn many_frames_in_one_payload_are_refused() {
    // Each of them keeps to what the first says; together they do not.
    let frame = zeros(100_000, true);
    let bytes = compressed::<Vec<u8>>(&Postcard, &frame.repeat(1000));
    let there = entry::<Vec<u8>>(&Postcard, "1000 frames", 100_000, &bytes);
    assert_eq!(there.label(), "compression", "{there}");
}

#[test]
fn a_bomb_inside_a_frame_is_refused_as_one_outside() {
    let bomb = vec![b'['; 10 << 20];
    let frame = zstd::bulk::compress(&bomb, 1).unwrap();
    let bytes = compressed::<serde_json::Value>(&Json, &frame);
    let there = entry::<serde_json::Value>(&Json, "10 MiB of [ in zstd", bomb.len(), &bytes);
    assert_eq!(there.label(), "payload", "{there}");
    assert_eq!(Packing::id(&Json).0, 3);
}
