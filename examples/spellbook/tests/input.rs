//! What clients get wrong: always a 4xx with a reason in JSON, and nothing is written.

use axum::http::Method;
use serde_json::json;
use spellbook::routes::router;
use tiered::{
    Tiered,
    tiers::{Memory, Quick},
};

use crate::support::{Client, app, sqlite};

/// Method, path, content type and body, and the status that answers them.
type Case<'a> = (&'a Method, &'a str, Option<(&'a str, &'a str)>, u16);

const JSON: &str = "application/json";

#[tokio::test]
async fn every_mistake_has_a_status_and_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Tiered::new(Quick::new(100), Memory::new()).build().unwrap();
    let service = Client::Router(router(app(cache, sqlite(directory.path()).await)));
    let before = service.get("/spells").await.text;

    let long = json!({ "name": "x".repeat(101), "damage": 1 }).to_string();
    let huge = json!({ "name": "x".repeat(20_000), "damage": 1 }).to_string();
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let cases: &[Case<'_>] = &[
        // Bodies that are no JSON object.
        (&post, "/spells", None, 415),
        (&post, "/spells", Some((JSON, "")), 400),
        (&post, "/spells", Some((JSON, "{")), 400),
        (&post, "/spells", Some((JSON, "fireball")), 400),
        (&post, "/spells", Some((JSON, r#"{"name":"x","damage":1} x"#)), 400),
        (&post, "/spells", Some((JSON, "null")), 422),
        (&post, "/spells", Some((JSON, r#"["x",1]"#)), 422),
        (&post, "/spells", Some(("text/plain", r#"{"name":"x","damage":1}"#)), 415),
        (&post, "/spells", Some((JSON, &huge)), 413),
        // Fields.
        (&post, "/spells", Some((JSON, "{}")), 422),
        (&post, "/spells", Some((JSON, r#"{"name":"x"}"#)), 422),
        (&post, "/spells", Some((JSON, r#"{"damage":1}"#)), 422),
        (&post, "/spells", Some((JSON, r#"{"name":"x","damage":1,"id":7}"#)), 422),
        (&post, "/spells", Some((JSON, r#"{"name":"x","name":"y","damage":1}"#)), 422),
        (&post, "/spells", Some((JSON, r#"{"name":7,"damage":1}"#)), 422),
        (&post, "/spells", Some((JSON, r#"{"name":null,"damage":1}"#)), 422),
        (&post, "/spells", Some((JSON, r#"{"name":"","damage":1}"#)), 422),
        (&post, "/spells", Some((JSON, r#"{"name":" \t\u2003","damage":1}"#)), 422),
        (&post, "/spells", Some((JSON, r#"{"name":"a\u0000b","damage":1}"#)), 422),
        (&post, "/spells", Some((JSON, &long)), 422),
        (&post, "/spells", Some((JSON, r#"{"name":"x","damage":-1}"#)), 422),
        (&post, "/spells", Some((JSON, r#"{"name":"x","damage":1.5}"#)), 422),
        (&post, "/spells", Some((JSON, r#"{"name":"x","damage":"1"}"#)), 422),
        (&post, "/spells", Some((JSON, r#"{"name":"x","damage":2147483648}"#)), 422),
        (&post, "/spells", Some((JSON, r#"{"name":"x","damage":99999999999999999999}"#)), 422),
        (&put, "/spells/1", Some((JSON, "")), 400),
        (&put, "/spells/1", None, 415),
        (&put, "/spells/1", Some((JSON, "[1]")), 422),
        (&put, "/spells/1", Some((JSON, "{}")), 422),
        (&put, "/spells/1", Some((JSON, r#"{"damage":-1}"#)), 422),
        (&put, "/spells/1", Some((JSON, r#"{"damage":1,"name":"x"}"#)), 422),
        // Ids.
        (&get, "/spells/fireball", None, 400),
        (&get, "/spells/1x", None, 400),
        (&get, "/spells/+1", None, 400),
        (&get, "/spells/-1", None, 400),
        (&get, "/spells/0", None, 400),
        (&get, "/spells/1.0", None, 400),
        (&get, "/spells/%20", None, 400),
        (&get, "/spells/%FF", None, 400),
        (&get, "/spells/99999999999999999999", None, 400),
        (&put, "/spells/x", Some((JSON, r#"{"damage":1}"#)), 400),
        (&delete, "/spells/x", None, 400),
        (&get, "/spells/9223372036854775807", None, 404),
        (&put, "/spells/99", Some((JSON, r#"{"damage":1}"#)), 404),
        (&delete, "/spells/99", None, 404),
        // Paths and methods.
        (&get, "/", None, 404),
        (&get, "/spells/1/2", None, 404),
        (&get, "/spell", None, 404),
        (&delete, "/spells", None, 405),
        (&Method::PATCH, "/spells/1", None, 405),
        (&post, "/health", None, 405),
    ];
    for (method, path, body, status) in cases {
        let body = body.map(|(kind, body)| (kind, body.as_bytes().to_vec()));
        let shown = body.as_ref().map(|(_, body)| String::from_utf8_lossy(body).into_owned());
        let reply = service.send((*method).clone(), path, body).await.unwrap();
        assert_eq!(reply.status, *status, "{method} {path} {shown:?}: {reply:?}");
        let reply = reply.expect(*status);
        if *status == 405 {
            assert!(reply.header("allow").is_some(), "{reply:?}");
        }
    }
    assert_eq!(service.get("/spells").await.text, before, "something was written");
}

#[tokio::test]
async fn what_is_at_the_limit_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Tiered::new(Quick::new(100), Memory::new()).build().unwrap();
    let service = Client::Router(router(app(cache, sqlite(directory.path()).await)));
    for (name, damage) in [("é".repeat(100), 0), ("x".into(), 2_147_483_647), ("'; --".into(), 1)]
    {
        let spell =
            service.post(json!({ "name": name, "damage": damage })).await.expect(201).body();
        assert_eq!((&spell["name"], &spell["damage"]), (&json!(name), &json!(damage)));
        let id = spell["id"].as_i64().unwrap();
        assert_eq!(service.spell(id).await.expect(200).body(), spell);
    }
}
