//! A small HTTPS client: one request, one answer, over a connection of its own. For token endpoints and the like.
//!
//! Redirects are not followed: what is sent is often secret, and meant for the named host only (CVE-2025-27817).

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::rt::ReadBufCursor;
use hyper::{Method, Request, Uri};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::timeout;

use super::dial::{Dialer, Stream};
use crate::config::{HostPort, Security, TlsConfig};
use crate::error::{Error, ErrorKind, Result};

/// Larger answers are not read to the end. 1 MiB: tokens and schemas are far smaller.
const ANSWER_MAX_BYTES: usize = 1 << 20;

/// A client of one `https` URL.
pub(super) struct HttpsClient {
    dialer: Dialer,
    address: HostPort,
    /// The URL's host with its port, as the `Host` header has it.
    authority: HeaderValue,
    path: Uri,
    connect_timeout: Duration,
    read_timeout: Duration,
}

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

impl HttpsClient {
    /// # Errors
    /// `Config`, when `url` is not one of `https`, or the certificates cannot be used.
    pub(super) fn new(
        url: &str,
        tls: &TlsConfig,
        connect_timeout: Duration,
        read_timeout: Duration,
    ) -> Result<Self> {
        let invalid = || Error::new(ErrorKind::Config, format!("{url:?} is not an https:// URL"));
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(invalid)?;
        // Name and password in a URL would be sent to nobody, and shown in errors.
        if authority.as_str().contains('@') {
            return Err(Error::new(ErrorKind::Config, "a URL must not hold a name and password"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).parse().map_err(|_| invalid())?;
        let security = Security { tls: Some(tls.clone()), sasl: None };
        Ok(Self {
            dialer: Dialer::new(&security)?,
            address: HostPort { host, port: authority.port_u16().unwrap_or(443) },
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| invalid())?,
            path,
            connect_timeout,
            read_timeout,
        })
    }

    /// Posts `body`.
    ///
    /// # Errors
    /// What connecting reports; `Network` or `Timeout`, when no whole answer comes.
    pub(super) async fn post(&self, headers: Vec<(HeaderName, HeaderValue)>, body: String) -> Result<Answer> {
        let stream = self.dialer.clone().dial(self.address.clone(), self.connect_timeout).await;
        let in_error =
            |cause: Error| Error::new(cause.kind(), format!("POST to {}", self.address)).with_cause(cause);
        let stream = stream.map_err(in_error)?;
        match timeout(self.read_timeout, self.exchange(stream, headers, body)).await {
            Ok(answer) => answer.map_err(in_error),
            Err(_) => {
                let text = format!(
                    "POST to {}: no answer within {} ms",
                    self.address,
                    self.read_timeout.as_millis()
                );
                Err(Error::new(ErrorKind::Timeout, text))
            }
        }
    }

    async fn exchange(
        &self,
        stream: Stream,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: String,
    ) -> Result<Answer> {
        let failed = |cause: hyper::Error| Error::new(ErrorKind::Network, "HTTP").with_cause(cause);
        let (mut sender, connection) = http1::handshake(HyperIo(stream)).await.map_err(failed)?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        request.headers_mut().insert(HOST, self.authority.clone());
        request.headers_mut().extend(headers);
        let mut answer = pin!(async {
            let response = sender.send_request(request).await.map_err(failed)?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
            let body = body.map_err(|cause| {
                let text = format!("read an answer of at most {ANSWER_MAX_BYTES} bytes: {cause}");
                Error::new(ErrorKind::Network, text)
            })?;
            Ok(Answer { status, body: body.to_bytes() })
        });
        let connection = pin!(connection);
        tokio::select! {
            answer = &mut answer => answer,
            // What is read is still to be handed out.
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(cause) => Err(failed(cause)),
            },
        }
    }
}

/// A stream as hyper wants it.
struct HyperIo(Stream);

impl hyper::rt::Read for HyperIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // Copied once more than need be, so as to need no `unsafe`.
        let mut room = [0; 4096];
        let mut buffer = ReadBuf::new(&mut room);
        ready!(match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_read(context, &mut buffer),
        })?;
        cursor.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for HyperIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}
