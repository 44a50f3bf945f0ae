//! A client of the service, over the network or straight into a router.

use std::time::{Duration, Instant};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header::CONTENT_TYPE},
};
use serde_json::{Value, json};
use tower::ServiceExt;

/// An answer to which no test should ever wait: a hang is a failure.
const HANG: Duration = Duration::from_secs(15);

/// Sends requests to one service.
#[derive(Clone)]
pub(crate) enum Client {
    /// To a process.
    Http(reqwest::Client, String),
    /// To handlers in this process.
    Router(Router),
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) took: Duration,
}

impl Client {
    pub(crate) fn http(base: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(HANG).build().unwrap();
        Self::Http(client, base.to_owned())
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, None).await.unwrap()
    }

    pub(crate) async fn post(&self, body: Value) -> Reply {
        self.json(Method::POST, "/spells", &body).await
    }

    pub(crate) async fn put(&self, id: i64, damage: i64) -> Reply {
        self.json(Method::PUT, &format!("/spells/{id}"), &json!({ "damage": damage })).await
    }

    pub(crate) async fn delete(&self, id: i64) -> Reply {
        self.send(Method::DELETE, &format!("/spells/{id}"), None).await.unwrap()
    }

    pub(crate) async fn spell(&self, id: i64) -> Reply {
        self.get(&format!("/spells/{id}")).await
    }

    pub(crate) async fn json(&self, method: Method, path: &str, body: &Value) -> Reply {
        let body = Some(("application/json", body.to_string().into_bytes()));
        self.send(method, path, body).await.unwrap()
    }

    /// Any request; an error is one of the connection.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Reply, reqwest::Error> {
        let start = Instant::now();
        let (status, headers, bytes) = match self {
            Self::Http(client, base) => {
                let mut request = client.request(method, format!("{base}{path}"));
                if let Some((kind, body)) = body {
                    request = request.header(CONTENT_TYPE, kind).body(body);
                }
                let answer = request.send().await?;
                (answer.status(), answer.headers().clone(), answer.bytes().await?)
            }
            Self::Router(router) => {
                let mut request = Request::builder().method(method).uri(path);
                let mut content = Body::empty();
                if let Some((kind, body)) = body {
                    request = request.header(CONTENT_TYPE, kind);
                    content = Body::from(body);
                }
                let answer = router.clone().oneshot(request.body(content).unwrap());
                let (parts, body) = answer.await.unwrap().into_parts();
                (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap())
            }
        };
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Ok(Reply { status, headers, text, took: start.elapsed() })
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn source(&self) -> &str {
        self.header("x-cache").unwrap_or("(no x-cache)")
    }

    pub(crate) fn body(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    pub(crate) fn damage(&self) -> i64 {
        assert_eq!(self.status, 200, "{self:?}");
        self.body()["damage"].as_i64().unwrap()
    }

    /// Asserts a status and, where it is an error, the shape that errors have.
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        if self.status.is_client_error() || self.status.is_server_error() {
            assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
            let body = self.body();
            let object = body.as_object().unwrap();
            assert!(object.len() == 1 && !object["error"].as_str().unwrap().is_empty(), "{self:?}");
        }
        self
    }

    pub(crate) fn from(self, source: &str) -> Self {
        assert_eq!(self.source(), source, "{self:?}");
        self
    }

    pub(crate) fn in_time(self, bound: Duration) -> Self {
        assert!(self.took <= bound, "took longer than {bound:?}: {self:?}");
        self
    }
}
