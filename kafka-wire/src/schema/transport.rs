//! Calls to the registry: one after the other, on a thread of its own, so that they work under any runtime.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub(super) use crate::net::http::Method;

use super::config::{Authorization, SchemaRegistryConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::net::http::{HttpClient, HttpResponse};
use crate::net::signal::reply;
use crate::reply::Reply;

/// The most calls that may wait; each has a caller who waits for its answer.
const CALLS_MAX: usize = 1000;
/// How often all addresses are tried before a call fails.
const ROUNDS: u32 = 3;
/// Before the second round; twice as long before the third.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// A call to the registry.
#[derive(Debug)]
pub(super) struct Call {
    method: Method,
    path: String,
    body: Bytes,
}

impl Call {
    pub(super) fn to(method: Method, segments: &[&str]) -> Self {
        let path = segments.iter().map(|segment| format!("/{}", percent_encoded(segment))).collect();
        Self { method, path, body: Bytes::new() }
    }

    pub(super) fn with(mut self, body: &impl Serialize) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(|cause| {
            Error::new(ErrorKind::Usage, "write a call to the registry").with_cause(cause)
        })?;
        self.body = body.into();
        Ok(self)
    }

    /// For errors.
    pub(super) fn attempt(&self) -> String {
        format!("schema registry: {:?} {}", self.method, self.path)
    }
}

/// The thread that makes the calls; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Transport {
    calls: mpsc::Sender<(Call, Reply<Bytes>)>,
}

impl Transport {
    pub(super) fn start(config: SchemaRegistryConfig) -> Result<Self> {
        let mut registry = Registry::new(config)?;
        let (calls, mut waiting) = mpsc::channel::<(Call, Reply<Bytes>)>(CALLS_MAX);
        let failed =
            |cause| Error::new(ErrorKind::Network, "start the schema registry's thread").with_cause(cause);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let run = move || {
            runtime.block_on(async {
                while let Some((call, reply)) = waiting.recv().await {
                    reply.send(registry.answer(&call).await);
                }
            });
        };
        thread::Builder::new().name("tidewater-schemas".into()).spawn(run).map_err(failed)?;
        Ok(Self { calls })
    }

    pub(super) async fn send(&self, call: Call) -> Result<Bytes> {
        let (reply, answer) = reply();
        // A failure drops the reply, which answers that the client is closed.
        let _ = self.calls.send((call, reply)).await;
        answer.await
    }
}

struct Registry {
    http: HttpClient,
    urls: Vec<String>,
    authorization: Option<Authorization>,
    /// Which address answered last.
    current: usize,
}

impl Registry {
    fn new(config: SchemaRegistryConfig) -> Result<Self> {
        let http = HttpClient::new(&config.tls, config.connect_timeout, config.request_timeout)?;
        Ok(Self { http, urls: config.urls, authorization: config.authorization, current: 0 })
    }

    async fn answer(&mut self, call: &Call) -> Result<Bytes> {
        let mut failure = Error::new(ErrorKind::Config, "no address of the registry is known");
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(ROUND_PAUSE * round).await;
            }
            for _ in 0..self.urls.len() {
                match self.ask(call).await {
                    Ok(answer) if is_passing(answer.status) => failure = refusal(call, &answer),
                    Ok(answer) if (200..300).contains(&answer.status) => return Ok(answer.body),
                    Ok(answer) => return Err(refusal(call, &answer)),
                    Err(error) if error.is_retriable() => failure = error,
                    Err(error) => return Err(Error::new(error.kind(), call.attempt()).with_cause(error)),
                }
                self.current = (self.current + 1) % self.urls.len();
            }
        }
        Err(Error::new(failure.kind(), call.attempt()).with_cause(failure))
    }

    async fn ask(&self, call: &Call) -> Result<HttpResponse> {
        let url = format!("{}{}", self.urls.get(self.current).map_or("", String::as_str), call.path);
        let authorization = self.authorization.as_ref().map(Authorization::header);
        let mut headers = vec![("Accept", MEDIA_TYPE), ("Content-Type", MEDIA_TYPE)];
        headers.extend(authorization.as_ref().map(|value| ("Authorization", value.as_str())));
        self.http.send(call.method.clone(), &url, &headers, call.body.clone()).await
    }
}

/// Another registry, or the same one in a moment, may be better off.
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..)
}

/// What the registry said, as an error.
fn refusal(call: &Call, answer: &HttpResponse) -> Error {
    #[derive(Deserialize)]
    struct Refusal {
        error_code: i32,
        message: String,
    }
    let why = match serde_json::from_slice(&answer.body) {
        Ok(Refusal { error_code, message }) => format!("{error_code}: {message}"),
        Err(_) => format!("HTTP status {}", answer.status),
    };
    let (kind, hint) = match answer.status {
        401 | 403 => (ErrorKind::Authentication, Some("check schema.registry.basic.auth.user.info")),
        404 if !why.starts_with("404") => (ErrorKind::Schema, Some("check the path of schema.registry.url")),
        400..500 => (ErrorKind::Schema, None),
        _ => (ErrorKind::Network, None),
    };
    let error = Error::new(kind, format!("{}: {why}", call.attempt()));
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

fn percent_encoded(segment: &str) -> String {
    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_cannot_leave_its_place_in_the_path() {
        let call = Call::to(Method::GET, &["subjects", "a/../b c?%", "versions"]);
        assert_eq!(call.path, "/subjects/a%2F..%2Fb%20c%3F%25/versions");
    }

    #[test]
    fn a_refusal_says_what_the_registry_said() {
        let call = Call::to(Method::GET, &["subjects"]);
        let body = Bytes::from_static(br#"{"error_code": 40401, "message": "Subject not found."}"#);
        let error = refusal(&call, &HttpResponse { status: 404, body });
        assert_eq!(error.to_string(), "schema registry: GET /subjects: 40401: Subject not found.");
        let error = refusal(&call, &HttpResponse { status: 401, body: Bytes::new() });
        assert_eq!(error.kind(), ErrorKind::Authentication);
    }
}
