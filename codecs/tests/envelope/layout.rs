//! Where every byte is. These never change: entries outlive the programs that wrote them.

use tiered_codecs::{
    CodecId,
    envelope::{Extensions, HEADER_LEN, Header, Opened, begin, finish, open},
};

use super::{KEY, entry, entry_of, header, seal_note};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_value_costs_64_bytes() {
    assert_eq!(HEADER_LEN, 64);
    assert_eq!(entry(&header(), b"payload").len(), 64 + 7);
    assert_eq!(entry(&header(), b"").len(), 64);
}

#[test]
fn an_extension_costs_three_bytes_and_itself() {
    let len = |extensions| entry_of(&header(), &extensions, KEY, b"").len() - 64;
    assert_eq!(len(Extensions { dictionary: Some(1), seal: None, ..Extensions::default() }), 3 + 8);
    assert_eq!(
        len(Extensions { dictionary: None, seal: Some(seal_note()), ..Extensions::default() }),
        3 + 4 + 24
    );
    assert_eq!(
        len(Extensions { dictionary: Some(1), seal: Some(seal_note()), ..Extensions::default() }),
        11 + 31
    );
}

#[test]
fn the_layout_is_pinned() {
    assert_eq!(
        hex(&entry(&header(), b"payload")),
        concat!(
            "564da3a4856bf42f", // checksum
            "54494552",         // magic
            "0101",             // format version, codec
            "0000",             // flags
            "07000000",         // schema
            "07000000",         // payload length
            "0807060504030201", // shape
            "e093040000",       // fresh
            "80ee360000",       // stale
            "363534333231",     // stored
            "1817161514131211", // incarnation
            "2827262524232221", // source version
            "7061796c6f6164",   // payload
        )
    );
}

#[test]
fn the_layout_with_every_extension_is_pinned() {
    let header = Header { codec: CodecId(3), compressed: true, sealed: true, ..header() };
    let extensions = Extensions {
        dictionary: Some(0x6162_6364_6566_6768),
        seal: Some(seal_note()),
        ..Extensions::default()
    };
    assert_eq!(
        hex(&entry_of(&header, &extensions, KEY, b"payload")),
        concat!(
            "606ef3c0eccb0fe8", // checksum
            "54494552",         // magic
            "0103",             // format version, codec
            "0600",             // flags: compressed, sealed
            "07000000",         // schema
            "07000000",         // payload length
            "0807060504030201", // shape
            "e093040000",       // fresh
            "80ee360000",       // stale
            "363534333231",     // stored
            "1817161514131211", // incarnation
            "2827262524232221", // source version
            "7061796c6f6164",   // payload
            "010800",           // a dictionary
            "6867666564636261",
            "021c00", // a seal
            "44434241",
            "505152535455565758595a5b5c5d5e5f6061626364656667",
        )
    );
}

#[test]
fn each_flag_has_its_bit() {
    let flags = |header: &Header| entry(header, b"")[14..16].to_vec();
    assert_eq!(flags(&header()), [0, 0]);
    assert_eq!(flags(&Header { negative: true, ..header() }), [1, 0]);
    assert_eq!(flags(&Header { compressed: true, ..header() }), [2, 0]);
    assert_eq!(flags(&Header { sealed: true, ..header() }), [4, 0]);
}

#[test]
fn what_was_finished_is_opened() {
    let entry = entry(&header(), b"payload");
    let opened = Opened {
        header: header(),
        extensions: Extensions::default(),
        payload: b"payload",
        vouched: [&entry[8..64], b""],
    };
    assert_eq!(open(&entry, KEY, entry.len()), Ok(opened));
}

#[test]
fn what_was_finished_with_extensions_is_opened() {
    let header = Header { compressed: true, sealed: true, ..header() };
    let extensions = Extensions {
        dictionary: Some(u64::MAX - 1),
        seal: Some(seal_note()),
        ..Extensions::default()
    };
    let entry = entry_of(&header, &extensions, KEY, b"payload");
    let vouched = [&entry[8..64], &entry[71..]];
    let opened = Opened { header, extensions, payload: b"payload", vouched };
    assert_eq!(open(&entry, KEY, entry.len()), Ok(opened));
}

#[test]
fn a_writer_that_shortens_the_buffer_writes_an_empty_payload() {
    let mut entry = begin(100);
    entry.clear();
    entry.push(1);
    finish(&mut entry, &header(), &Extensions::default(), KEY);
    assert_eq!(open(&entry, KEY, 64).unwrap().payload, b"");
    assert_eq!(open(&entry, KEY, 64).unwrap().header, header());
}

#[test]
fn what_is_reserved_is_not_stored() {
    let mut entry = begin(10_000);
    assert!(entry.capacity() >= 10_064);
    entry.extend_from_slice(b"payload");
    finish(&mut entry, &header(), &Extensions::default(), KEY);
    assert_eq!(entry.len(), 71);
}
