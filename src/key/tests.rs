use proptest::prelude::*;

use super::*;

#[test]
fn plain_keys_stay_readable_on_the_wire() {
    assert_eq!(Key::from("user:1").wire("shop"), b"shop:user:1");
    assert_eq!(Key::from(format_args!("user:{}", 1)).wire("shop"), b"shop:user:1");
}

#[test]
fn no_key_can_spell_a_lease() {
    let wire = Key::from("{shop:user:1}:l").wire("shop");
    assert_eq!(wire, b"shop:%7Bshop:user:1%7D:l");
}

#[test]
fn a_key_with_a_failing_display_or_of_endless_length_is_refused() {
    struct Failing;
    impl Display for Failing {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            Err(fmt::Error)
        }
    }
    assert!(matches!(Key::from(Failing).check(), Err(Error::InvalidKey(_))));
    assert!(Key::bytes(&vec![b'a'; MAX_KEY_LEN - 1]).check().is_ok());
    assert!(Key::bytes(&vec![b'a'; MAX_KEY_LEN + 1]).check().is_err());
    assert!(Key::bytes(&vec![b' '; MAX_KEY_LEN / 2]).check().is_err());
}

#[test]
fn debug_never_shows_the_key() {
    assert!(!format!("{:?}", Key::from("alice@example.org")).contains("alice"));
}

#[test]
fn built_keys_stay_readable_on_the_wire() {
    assert_eq!(Key::from("user:1").version(3).wire("shop"), b"shop:user:1:v3");
    let list: Key = Key::list("posts").param("page", 2).into();
    let wire = String::from_utf8(list.wire("shop")).unwrap();
    let digest = wire.strip_prefix("shop:posts:list:").unwrap();
    assert_eq!(digest.len(), 40);
    assert!(digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(list.clone().version(7).wire("shop"), [list.wire("shop"), b":v7".to_vec()].concat());
    assert_eq!(encode_namespace("shop", 2), "shop%v2");
    assert_eq!(encode_namespace("shop", 0), "shop");
}

#[test]
fn what_reads_like_a_built_key_is_marked() {
    assert_eq!(Key::from("user:1:v3").wire("shop"), b"shop:user:1:v3%raw");
    assert_eq!(Key::from("user:1:v").wire("shop"), b"shop:user:1:v");
    assert_eq!(Key::from("user:v3").wire("shop"), b"shop:user:v3%raw");
    let list: Key = Key::list("posts").into();
    let text = String::from_utf8(list.as_bytes().to_vec()).unwrap();
    let spelled = Key::from(&text);
    assert_eq!(spelled.as_bytes(), list.as_bytes(), "they read alike");
    assert_ne!(spelled, list);
    assert_ne!(spelled.local(), list.local());
    assert_eq!(spelled.wire("shop"), format!("shop:{text}%raw").into_bytes());
}

#[test]
fn a_lists_parameters_are_told_apart() {
    let key = |params: &[(&str, &str)]| -> Key {
        params.iter().fold(Key::list("p"), |list, (name, value)| list.param(name, value)).into()
    };
    let different = [
        key(&[]),
        key(&[("", "")]),
        key(&[("a", "bc")]),
        key(&[("ab", "c")]),
        key(&[("a", "b"), ("c", "")]),
        key(&[("a", "b"), ("", "c")]),
        key(&[("a", "1"), ("b", "2")]),
        key(&[("b", "2"), ("a", "1")]),
        key(&[("a", "1"), ("a", "1")]),
        Key::list("q").into(),
        Key::lists("p"),
    ];
    for (at, one) in different.iter().enumerate() {
        for other in &different[at + 1..] {
            assert_ne!(one, other);
            assert_ne!(one.wire("n"), other.wire("n"));
        }
    }
}

#[test]
fn the_order_of_parameters_counts_only_within_a_name_when_it_is_normalised() {
    let key = |params: &[(&str, u8)]| -> Key {
        let list =
            params.iter().fold(Key::list("p"), |list, (name, value)| list.param(name, value));
        list.in_any_order().into()
    };
    let one = key(&[("tag", 1), ("page", 2), ("tag", 3)]);
    assert_eq!(one, key(&[("page", 2), ("tag", 1), ("tag", 3)]));
    assert_eq!(one, key(&[("tag", 1), ("tag", 3), ("page", 2)]));
    assert_ne!(one, key(&[("page", 2), ("tag", 3), ("tag", 1)]));
    assert_eq!(key(&[("a", 1)]), Key::list("p").param("a", 1).into());
}

#[test]
fn a_prefix_covers_what_is_built_on_it() {
    let prefix = Prefix::of(&Key::from("my posts:"));
    assert_eq!(prefix.wire("n"), b"n:my%20posts:");
    let list: Key = Key::list("my posts").into();
    let covered = [
        Key::from("my posts:"),
        Key::from("my posts:1"),
        Key::from("my posts:1:v3"),
        Key::from("my posts:1").version(3),
        Key::bytes(b"my posts:\0"),
    ];
    for key in covered {
        assert!(prefix.covers(key.local()), "{:?}", key.as_bytes());
        assert!(key.wire("n").starts_with(&prefix.wire("n")), "{:?}", key.as_bytes());
    }
    for key in [Key::from("my posts"), Key::from("my post:1"), Key::from("")] {
        assert!(!prefix.covers(key.local()));
    }
    let lists = Prefix::of(&Key::lists("my posts"));
    assert!(lists.covers(list.local()) && list.wire("n").starts_with(&lists.wire("n")));
    let all = Prefix::of(&Key::bytes(b""));
    assert!(all.covers(list.local()) && all.covers(Key::from("").local()));
}

/// Built keys have on the wire what they have in L1, others have it encoded.
#[test]
fn a_prefix_means_the_same_in_l1_and_on_the_wire() {
    let built = Key::from("my user").version(3);
    let list: Key = Key::list("my user").into();
    let keys = [
        Key::from("my user:v3"),
        Key::from("my user:v3:x"),
        Key::from("my%20user:v3"),
        Key::from("my%20user:v3:x"),
        built.clone(),
        built.clone().version(4),
        list.clone(),
        Key::bytes(list.as_bytes()),
    ];
    for prefix in keys.iter().chain([&Key::from("my user"), &Key::from("my%20user")]) {
        let prefix = Prefix::of(prefix);
        for key in &keys {
            let on_wire = key.wire("n").starts_with(&prefix.wire("n"));
            assert!(!on_wire || prefix.covers(key.local()), "{prefix:?} {:?}", key.as_bytes());
        }
    }
    // What a built key reads is no prefix of it, if given as bytes of one's own: there `%` is a byte.
    assert!(!list.wire("n").starts_with(&Prefix::of(&Key::bytes(&list.as_bytes()[..8])).wire("n")));
    assert_eq!(&*decode(b"%20%7b%zz%2"), b" {%zz%2");
}

/// Keys of all kinds over a few bytes that are hard to tell apart.
fn any_key() -> impl Strategy<Value = Key> {
    let hard = prop_oneof![
        8 => proptest::sample::select(&b"a:v1%\0{ listraw"[..]),
        1 => any::<u8>(),
    ];
    let bytes = proptest::collection::vec(hard, 0..8);
    let raw = bytes.clone().prop_map(|bytes| Key::bytes(&bytes));
    let list = "[a:]{0,3}".prop_map(|prefix| Key::from(Key::list(&prefix)));
    let spelled = list.clone().prop_map(|key| Key::bytes(key.as_bytes()));
    prop_oneof![3 => raw, 1 => list, 1 => spelled].prop_recursive(3, 8, 1, |inner| {
        let versioned = (inner.clone(), 0..12_u64).prop_map(|(key, version)| key.version(version));
        let spelled = versioned.clone().prop_map(|key| Key::bytes(key.as_bytes()));
        prop_oneof![versioned, spelled]
    })
}

proptest! {
    #[test]
    fn keys_of_all_kinds_are_what_they_are(a in any_key(), b in any_key()) {
        prop_assert_eq!(a == b, a.local() == b.local());
        prop_assert_eq!(a == b, a.wire("n") == b.wire("n"));
        let prefix = Prefix::of(&b);
        let begins = a.wire("n").starts_with(&prefix.wire("n"));
        prop_assert!(!begins || prefix.covers(a.local()), "L1 overlooks what L2 drops");
    }

    #[test]
    fn different_keys_never_meet_on_the_wire(
        a in proptest::collection::vec(any::<u8>(), 0..40),
        b in proptest::collection::vec(any::<u8>(), 0..40),
        m in "[a-z:%{} ]{0,8}",
        n in "[a-z:%{} ]{0,8}",
    ) {
        let left = Key::bytes(&a).wire(&encode_namespace(&m, 0));
        let right = Key::bytes(&b).wire(&encode_namespace(&n, 0));
        prop_assert_eq!(left == right, a == b && m == n);
        let is_raw = left.iter().any(|byte| matches!(byte, b'{' | b'}' | 0..=32 | 127));
        prop_assert!(!is_raw, "an unsafe byte stays raw");
    }
}
