//! What a recorder sees: the series' names, labels and counts.

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tiered::{
    Tiered,
    tiers::{Memory, Moka, RemoteTier},
};

use crate::support::{DbDown, State, Switchable, db_down};

/// The counters of one name: labels as `k=v,k=v`, and how often they counted.
type Counts = BTreeMap<String, u64>;

/// A cache whose handles were made under a recorder of its own.
fn recorded() -> (Tiered, Switchable, Snapshotter) {
    let recorder = DebuggingRecorder::new();
    let l2 = Switchable::new(Memory::new());
    let cache = metrics::with_local_recorder(&recorder, || {
        Tiered::new(Moka::new(100), l2.clone()).name("spells").build().unwrap()
    });
    (cache, l2, recorder.snapshotter())
}

fn series(snapshotter: &Snapshotter) -> (BTreeMap<String, Counts>, BTreeMap<String, Counts>) {
    let (mut counters, mut histograms) = (BTreeMap::new(), BTreeMap::new());
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let key = key.key();
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let (all, count) = match value {
            DebugValue::Counter(count) => (&mut counters, count),
            DebugValue::Histogram(values) => (&mut histograms, values.len() as u64),
            DebugValue::Gauge(_) => panic!("no gauges yet"),
        };
        let of_name: &mut Counts = all.entry(key.name().to_owned()).or_default();
        if count > 0 {
            of_name.insert(labels.join(","), count);
        }
    }
    (counters, histograms)
}

fn counts<const N: usize>(pairs: [(&str, u64); N]) -> Counts {
    pairs.into_iter().map(|(labels, count)| (labels.to_owned(), count)).collect()
}

#[tokio::test]
async fn the_series_tell_what_happened() {
    let (cache, l2, snapshotter) = recorded();
    let ok = || async { Ok::<_, DbDown>(1_u32) };
    cache.get_or_load("k", ok).await.unwrap();
    cache.get_or_load("k", ok).await.unwrap();
    cache.key("k").get::<u32>().await.unwrap();
    cache.get::<u32>("other").await.unwrap();
    cache.get_or_load::<u32, _, _, _>("down", db_down).await.unwrap_err();
    let _ = cache.invalidate("k").await.unwrap();
    l2.switch(State::Failing);
    cache.get_or_load("k", ok).await.unwrap();

    let (counters, histograms) = series(&snapshotter);
    let requests = counts([
        ("cache=spells,outcome=error", 1),
        ("cache=spells,outcome=hit_l1", 2),
        ("cache=spells,outcome=load", 2),
        ("cache=spells,outcome=miss", 1),
    ]);
    assert_eq!(counters["tiered_requests_total"], requests);
    let ops = &counters["tiered_tier_ops_total"];
    let op = |labels: &str| ops.get(&format!("cache=spells,{labels}")).copied().unwrap_or(0);
    assert_eq!(op("tier=moka,op=get,result=hit"), 2);
    assert_eq!(op("tier=switchable,op=get,result=miss"), 3);
    assert_eq!(op("tier=switchable,op=get,result=error"), 1);
    assert_eq!(op("tier=switchable,op=lease,result=granted"), 2);
    assert_eq!(op("tier=switchable,op=fill,result=stored"), 1);
    assert_eq!(op("tier=switchable,op=release,result=ok"), 1);
    assert_eq!(op("tier=switchable,op=delete,result=ok"), 1);
    let loads = counts([("cache=spells,result=error", 1), ("cache=spells,result=value", 2)]);
    assert_eq!(histograms["tiered_load_seconds"], loads);
    assert_eq!(histograms["tiered_tier_op_seconds"]["cache=spells,tier=switchable,op=get"], 4);
    assert_eq!(counters["tiered_loads_coalesced_total"], Counts::new());
}

#[tokio::test]
async fn refused_entries_are_counted_by_reason() {
    let recorder = DebuggingRecorder::new();
    let memory = Memory::new();
    let cache = Tiered::remote(memory.clone()).name("spells").build().unwrap();
    // Reasons are looked up when they happen: the recorder must be there then.
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let _ = cache.set("shape", 1_u32).await.unwrap();
    cache.get::<String>("shape").await.unwrap();
    let _ = cache.key("schema").schema(3).set(1_u32).await.unwrap();
    cache.key("schema").schema(1).get::<u32>().await.unwrap();
    cache.key("schema").schema(5).get::<u32>().await.unwrap();
    let garbage = bytes::Bytes::from_static(&[7; 100]);
    memory.set(b"tiered:garbage", garbage, std::time::Duration::from_secs(9)).await.unwrap();
    cache.get::<u32>("garbage").await.unwrap();
    let (counters, _) = series(&recorder.snapshotter());
    let reasons = counts([
        ("cache=spells,reason=checksum", 1),
        ("cache=spells,reason=newer_schema", 1),
        ("cache=spells,reason=older_schema", 1),
        ("cache=spells,reason=shape", 1),
    ]);
    assert_eq!(counters["tiered_decode_failures_total"], reasons);
}
