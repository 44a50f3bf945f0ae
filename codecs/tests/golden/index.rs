//! `index.txt`: what each golden entry is, for people and for this test.

use std::{collections::BTreeMap, fs, path::PathBuf};

use tiered_codecs::envelope::Meta;

use super::order::Order;

/// One golden entry.
#[derive(Debug)]
pub(crate) struct Golden {
    pub(crate) name: String,
    /// The codec, then the words `zstd`, `dictionary` and `sealed` as they apply.
    pub(crate) packing: Vec<String>,
    pub(crate) key: Vec<u8>,
    pub(crate) meta: Meta,
    /// What it depends on, as the engine writes it.
    pub(crate) tags: Vec<u8>,
    /// What a later writer appended to the extensions.
    pub(crate) later: Vec<u8>,
    /// `None` for a negative entry.
    pub(crate) value: Option<Order>,
}

impl Golden {
    pub(crate) fn is(&self, word: &str) -> bool {
        self.packing.iter().any(|it| it == word)
    }

    pub(crate) fn path(&self) -> PathBuf {
        folder().join(format!("{}.bin", self.name))
    }

    /// The stored bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden"))
}

/// All golden entries, in the index's order.
pub(crate) fn all() -> Vec<Golden> {
    let text = fs::read_to_string(folder().join("index.txt")).unwrap();
    let lines = text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#'));
    let mut sections: Vec<(String, BTreeMap<&str, &str>)> = Vec::new();
    for line in lines {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push((name.to_owned(), BTreeMap::new()));
        } else {
            let (field, value) = line.split_once('=').unwrap_or_else(|| panic!("a line: {line}"));
            let (_, fields) = sections.last_mut().expect("a section first");
            assert!(fields.insert(field.trim(), value.trim()).is_none(), "twice: {line}");
        }
    }
    sections.into_iter().map(|(name, fields)| golden(name, fields)).collect()
}

fn golden(name: String, mut fields: BTreeMap<&str, &str>) -> Golden {
    let mut take = |field| fields.remove(field).unwrap_or_else(|| panic!("{name} has no {field}"));
    let packing = take("packing").split_whitespace().map(str::to_owned).collect();
    let key = take("key");
    let key = key.strip_prefix("hex ").map_or_else(|| key.as_bytes().to_vec(), unhex);
    let meta = meta(take("meta"));
    let value = match take("value") {
        "none" => None,
        json => Some(serde_json::from_str(json).unwrap_or_else(|it| panic!("{name}: {it}"))),
    };
    let tags = fields.remove("tags").map_or_else(Vec::new, unhex);
    let later = fields.remove("later").map_or_else(Vec::new, unhex);
    assert!(fields.is_empty(), "{name}: unknown fields {fields:?}");
    Golden { name, packing, key, meta, tags, later, value }
}

/// `schema 1, fresh_ms 2, ..`; what is not named is 0.
fn meta(text: &str) -> Meta {
    let mut meta = Meta::default();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (field, number) = part.split_once(' ').expect("a field and a number");
        let number: u64 = number.parse().unwrap();
        match field {
            "schema" => meta.schema = number.try_into().unwrap(),
            "fresh_ms" => meta.fresh_ms = number,
            "stale_ms" => meta.stale_ms = number,
            "stored_ms" => meta.stored_ms = number,
            "incarnation" => meta.incarnation = number,
            "source_version" => meta.source_version = number,
            _ => panic!("no field of a meta: {field}"),
        }
    }
    meta
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|it| !it.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}
