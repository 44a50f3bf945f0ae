//! Nothing secret is shown: not by `Debug`, not by errors.

use tiered_codecs::{Also, Json, Postcard, SealKey, Sealed, Zstd};

use crate::support::{DICTIONARY, Inverted, KEY, pack, read};

const SECRET: &[u8; 32] = b"correct horse battery staple 123";

/// Fails if `shown` has any part of `secret` in it, in one of the ways that bytes are shown.
#[track_caller]
fn hides(shown: &str, secret: &[u8]) {
    let ways: [Vec<String>; 4] = [
        secret.chunks(4).map(|part| String::from_utf8_lossy(part).into_owned()).collect(),
        secret
            .chunks(4)
            .map(|part| part.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect(),
        secret.windows(3).map(|part| format!("{}, {}, {}", part[0], part[1], part[2])).collect(),
        secret
            .windows(3)
            .map(|part| format!("{:#x}, {:#x}, {:#x}", part[0], part[1], part[2]))
            .collect(),
    ];
    let joined: String = shown.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    for part in ways.iter().flatten() {
        assert!(!joined.contains(&part.to_lowercase()), "{part:?} is in {shown}");
    }
}

#[test]
fn a_key_shows_its_id_only() {
    let key = SealKey::new(7, *SECRET);
    assert_eq!(format!("{key:?}"), "SealKey(7, ..)");
    assert_eq!(format!("{key:#?}"), "SealKey(7, ..)");
}

#[test]
fn a_packing_shows_no_key() {
    let sealed = Sealed::new(Zstd::new(Json), SealKey::new(7, *SECRET))
        .old_key(SealKey::new(6, SECRET.map(|byte| byte ^ 1)));
    for shown in [
        format!("{sealed:?}"),
        format!("{sealed:#?}"),
        format!("{:?}", Also::new(sealed.clone(), Inverted(200))),
    ] {
        assert!(shown.contains("SealKey(7, ..)") && shown.contains("SealKey(6, ..)"), "{shown}");
        hides(&shown, SECRET);
        hides(&shown, &SECRET.map(|byte| byte ^ 1));
    }
}

#[test]
fn a_packing_shows_of_a_dictionary_its_name_and_length() {
    // It is made of values.
    let zstd = Zstd::new(Postcard).dictionary(DICTIONARY).old_dictionary(SECRET.to_vec());
    for shown in [format!("{zstd:?}"), format!("{zstd:#?}")] {
        hides(&shown, DICTIONARY);
        hides(&shown, SECRET);
        assert!(shown.contains("1024 bytes") && shown.contains("32 bytes"), "{shown}");
        let id = xxhash_rust::xxh3::xxh3_64(DICTIONARY);
        assert!(shown.contains(&format!("{id:016x}")), "{shown}");
    }
}

#[test]
fn a_sealed_entry_shows_nothing_of_the_value_or_the_key() {
    let sealed = Sealed::new(Json, SealKey::new(7, *SECRET));
    let value = "a value that nobody may see".to_owned();
    let entry = pack(&sealed, &value);
    let holds = |part: &[u8]| entry.windows(part.len()).any(|window| window == part);
    for part in value.as_bytes().windows(4).chain(SECRET.windows(4)) {
        assert!(!holds(part), "{part:?}");
    }
    assert_eq!(read(&sealed, &entry), Ok(Some(value)));
}

#[test]
fn a_refusal_shows_nothing_of_the_key() {
    let sealed = Sealed::new(Json, SealKey::new(7, *SECRET));
    let other = Sealed::new(Json, SealKey::new(7, [9; 32]));
    let refusal = read::<String>(&sealed, &pack(&other, &String::new())).unwrap_err();
    hides(&format!("{refusal} {refusal:?}"), SECRET);
    hides(&format!("{refusal} {refusal:?}"), KEY);
}
