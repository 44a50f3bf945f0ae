//! A spell's life from POST to DELETE, on both databases, through the real program.

use serde_json::json;

use crate::support::{Client, Postgres, Program};

#[tokio::test]
async fn a_spell_lives_and_dies_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path(), &[]).await;
    assert!(directory.path().join("spellbook.db").exists());
    life(&program).await;
    program.stop().await;
    // The ids go on, and the eight first spells do not come back.
    let program = Program::start(directory.path(), &[]).await;
    afterlife(&program).await;
    program.stop().await;
}

#[tokio::test]
async fn a_spell_lives_and_dies_on_postgres() {
    let server = Postgres::start().await;
    let directory = tempfile::tempdir().unwrap();
    let url = server.url();
    let program = Program::start(directory.path(), &[("DATABASE_URL", &url)]).await;
    assert!(!directory.path().join("spellbook.db").exists());
    life(&program).await;
    program.stop().await;
    let program = Program::start(directory.path(), &[("DATABASE_URL", &url)]).await;
    afterlife(&program).await;
    program.stop().await;
}

async fn life(service: &Client) {
    // The first day.
    let list = service.get("/spells").await.expect(200).body();
    let ids: Vec<i64> =
        list.as_array().unwrap().iter().map(|spell| spell["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7, 8]);
    let first = service.spell(1).await.expect(200).from("load");
    assert_eq!(first.body(), list[0]);
    assert_eq!(service.spell(1).await.expect(200).from("hit_l1").body(), list[0]);

    // An id that was asked for too early.
    service.spell(9).await.expect(404).from("load");
    service.spell(9).await.expect(404).from("negative");
    let created = service.post(json!({ "name": "  Wall of Ice ", "damage": 12 })).await.expect(201);
    assert_eq!(created.header("location"), Some("/spells/9"));
    let created = created.body();
    assert_eq!((&created["id"], &created["name"]), (&json!(9), &json!("Wall of Ice")));
    assert_eq!(created["damage"], 12);
    assert!(created["created_at"].as_i64().unwrap() > 1_600_000_000_000);
    assert_eq!(created["created_at"], created["updated_at"]);
    assert_eq!(service.spell(9).await.expect(200).from("load").body(), created);

    // A change.
    let changed = service.put(9, 13).await.expect(200).body();
    assert_eq!((&changed["id"], &changed["name"]), (&json!(9), &json!("Wall of Ice")));
    assert_eq!(changed["damage"], 13);
    assert_eq!(changed["created_at"], created["created_at"]);
    assert!(changed["updated_at"].as_i64() >= created["updated_at"].as_i64());
    assert_eq!(service.spell(9).await.expect(200).from("load").body(), changed);
    assert_eq!(service.spell(9).await.from("hit_l1").body(), changed);

    // The end.
    let gone = service.delete(9).await;
    assert_eq!((gone.status.as_u16(), gone.text.as_str()), (204, ""));
    service.spell(9).await.expect(404).from("load");
    service.spell(9).await.expect(404).from("negative");
    service.delete(9).await.expect(404);
    service.put(9, 1).await.expect(404);
    service.delete(3).await;

    // Ids are not given twice.
    let next = service.post(json!({ "name": "Ward", "damage": 0 })).await.expect(201);
    assert_eq!(next.body()["id"], 10);
    service.delete(10).await;
}

async fn afterlife(service: &Client) {
    let list = service.get("/spells").await.expect(200).body();
    assert_eq!(list.as_array().unwrap().len(), 7, "{list}");
    service.spell(3).await.expect(404);
    let next = service.post(json!({ "name": "Ward", "damage": 0 })).await.expect(201);
    assert_eq!(next.body()["id"], 11);
}
