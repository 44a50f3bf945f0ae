//! What operators see: metrics, health, and the log.

use std::collections::HashMap;

use serde_json::json;
use tiered_tiers::testing::RedisServer;

use crate::support::{Client, Program};

/// The values of one counter by the value of its label `label`.
async fn counts(service: &Client, metric: &str, label: &str) -> HashMap<String, f64> {
    let text = service.get("/metrics").await.expect(200).text;
    let begin = format!("{label}=\"");
    text.lines()
        .filter(|line| line.starts_with(&format!("{metric}{{")))
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let name = series.split_once(&begin)?.1.split('"').next()?;
            Some((name.to_owned(), value.parse().unwrap()))
        })
        .collect()
}

#[tokio::test]
async fn metrics_count_every_read_once_by_its_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let redis = RedisServer::start().await.unwrap();
    let url = redis.url();
    let service = Program::start(directory.path(), &[("REDIS_URL", &url)]).await;
    let reply = service.get("/metrics").await.expect(200);
    assert!(reply.header("content-type").unwrap().starts_with("text/plain"), "{reply:?}");

    for _ in 0..4 {
        service.spell(1).await.expect(200);
    }
    for _ in 0..3 {
        service.spell(99).await.expect(404);
    }
    service.spell(2).await.expect(200);
    // A list is a read, too; none of the others is.
    service.get("/spells").await.expect(200);
    service.get("/spells/x").await.expect(400);
    service.put(2, 2).await.expect(200);

    let requests = counts(&service, "tiered_requests_total", "outcome").await;
    let expected =
        [("load", 4.0), ("hit_l1", 3.0), ("negative", 2.0), ("hit_l2", 0.0), ("error", 0.0)];
    for (outcome, count) in expected {
        assert_eq!(requests.get(outcome), Some(&count), "{outcome}: {requests:?}");
    }
    assert_eq!(requests.values().sum::<f64>(), 9.0, "{requests:?}");
    let text = service.get("/metrics").await.text;
    assert!(text.contains("cache=\"spellbook\"") && text.contains("tier=\"redis\""), "{text}");
    // Histograms, which can be added up over processes, and not summaries.
    assert!(text.contains("tiered_load_seconds_bucket"), "{text}");

    // Another process finds in L2 what this one has put there.
    let other = Program::start(directory.path(), &[("REDIS_URL", &url)]).await;
    other.spell(1).await.expect(200);
    let requests = counts(&other, "tiered_requests_total", "outcome").await;
    assert_eq!(requests.get("hit_l2"), Some(&1.0), "{requests:?}");
    other.stop().await;
    service.stop().await;
}

#[tokio::test]
async fn health_names_the_parts() {
    let directory = tempfile::tempdir().unwrap();
    let service = Program::start(directory.path(), &[]).await;
    service.spell(1).await.expect(200);
    let health = service.get("/health").await.expect(200).body();
    assert_eq!(health["status"], "ok", "{health}");
    assert_eq!(health["database"], json!({ "name": "sqlite", "up": true }));
    assert_eq!((&health["l1"]["up"], &health["l2"]["up"]), (&json!(true), &json!(true)));
    assert_eq!(health["pending_invalidations"], 0);
    service.stop().await;
}

#[tokio::test]
async fn the_debug_log_has_a_line_for_each_request() {
    let directory = tempfile::tempdir().unwrap();
    let service = Program::start(directory.path(), &[("RUST_LOG", "spellbook=debug")]).await;
    service.spell(1).await.expect(200);
    service.spell(1).await.expect(200);
    service.get("/spells/x").await.expect(400);
    let log = service.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("path=")).collect();
    assert_eq!(lines.len(), 3, "{log}");
    for (line, parts) in lines.iter().zip([
        ["method=GET", "path=\"/spells/1\"", "status=200", "source=\"load\"", "time="],
        ["method=GET", "path=\"/spells/1\"", "status=200", "source=\"hit_l1\"", "time="],
        ["method=GET", "path=\"/spells/x\"", "status=400", "source=\"-\"", "time="],
    ]) {
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    service.stop().await;
    // And none without being asked for.
    let service = Program::start(directory.path(), &[]).await;
    service.spell(1).await.expect(200);
    assert!(!service.log().contains("path="), "{}", service.log());
    service.stop().await;
}
