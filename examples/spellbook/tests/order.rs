//! Changes that are answered in another order than they were committed in, and clients that go
//! away midway: a read afterwards gives what was committed last.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use spellbook::{app::App, routes::router};
use tiered::{
    Tiered,
    tiers::{Memory, Quick},
};

use crate::support::{Client, Gate, app, locked, sqlite, until, within};

/// A cache whose budget outlasts the test: it waits at the gate as long as it must.
fn patient(gate: &Gate) -> Tiered {
    let cache = Tiered::new(Quick::new(100), gate.clone());
    cache.namespace("spellbook").budget(Duration::from_secs(30)).build().unwrap()
}

/// The service, and a cache before whose invalidations there is a gate.
async fn gated(directory: &std::path::Path, tier: &Memory) -> (App, Gate) {
    let gate = Gate::new(tier.clone());
    (app(patient(&gate), sqlite(directory).await), gate)
}

#[tokio::test]
async fn two_changes_answered_in_the_other_order_leave_the_one_committed_last() {
    let directory = tempfile::tempdir().unwrap();
    let (app, gate) = gated(directory.path(), &Memory::new()).await;
    let service = Client::Router(router(app));
    service.spell(1).await.expect(200).from("load");

    gate.arm();
    let early = tokio::spawn({
        let service = service.clone();
        async move { service.put(1, 111).await }
    });
    gate.holds_one().await;
    // The early change is committed, and not yet invalidated.
    assert_eq!(service.put(1, 222).await.damage(), 222);
    assert_eq!(service.spell(1).await.damage(), 222);
    assert!(!early.is_finished());
    gate.open();
    assert_eq!(early.await.unwrap().damage(), 111);
    assert_eq!(service.spell(1).await.damage(), 222);
    assert_eq!(service.spell(1).await.from("hit_l1").damage(), 222);
}

#[tokio::test]
async fn the_same_on_two_services_that_share_an_l2() {
    let directory = tempfile::tempdir().unwrap();
    let tier = Memory::new();
    let (slow, gate) = gated(directory.path(), &tier).await;
    let (quick, _) = gated(directory.path(), &tier).await;
    let (slow, quick) = (Client::Router(router(slow)), Client::Router(router(quick)));

    slow.spell(1).await.expect(200).from("load");
    gate.arm();
    let early = tokio::spawn({
        let slow = slow.clone();
        async move { slow.put(1, 111).await }
    });
    gate.holds_one().await;
    assert_eq!(quick.put(1, 222).await.damage(), 222);
    assert_eq!(quick.spell(1).await.from("load").damage(), 222);
    gate.open();
    assert_eq!(early.await.unwrap().damage(), 111);
    assert_eq!(slow.spell(1).await.damage(), 222);
    assert_eq!(quick.spell(1).await.damage(), 222);
}

#[tokio::test]
async fn a_read_that_began_before_a_change_stores_nothing_old() {
    let directory = tempfile::tempdir().unwrap();
    let (app, gate) = gated(directory.path(), &Memory::new()).await;
    let service = Client::Router(router(app));
    gate.arm();
    let removal = tokio::spawn({
        let service = service.clone();
        async move { service.delete(1).await }
    });
    gate.holds_one().await;
    // Committed; whoever reads now reads the database as it is.
    service.spell(1).await.expect(404);
    gate.open();
    assert_eq!(removal.await.unwrap().status, StatusCode::NO_CONTENT);
    service.spell(1).await.expect(404);
}

#[tokio::test]
async fn a_client_that_goes_away_before_the_commit_leaves_nothing_stale() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Tiered::new(Quick::new(100), Memory::new()).build().unwrap();
    let service = Client::Router(router(app(cache, sqlite(directory.path()).await)));
    service.spell(1).await.expect(200).from("load");
    service.spell(1).await.expect(200).from("hit_l1");

    // Another writer holds the database, so that the change cannot commit yet.
    let lock = locked(directory.path()).await;
    let change = service.send(
        Method::PUT,
        "/spells/1",
        Some(("application/json", br#"{"damage":222}"#.to_vec())),
    );
    // The client's patience, and with its end the handler is dropped.
    let gave_up = tokio::time::timeout(Duration::from_millis(300), change).await;
    assert!(gave_up.is_err(), "the change did not wait for the lock");
    drop(lock);

    until("the change is committed", async || {
        (service.get("/spells").await.body()[0]["damage"] == 222).then_some(())
    })
    .await;
    // The invalidation follows the commit; without it the old spell would stay for a minute.
    within(Duration::from_secs(5), "the change is seen", async || {
        (service.spell(1).await.damage() == 222).then_some(())
    })
    .await;
}
