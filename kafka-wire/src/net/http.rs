//! A small HTTP client: each request over a connection of its own. For token endpoints and schema registries.
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
use hyper::{Request, Uri};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::timeout;

pub(crate) use hyper::Method;

use super::dial::{Dialer, Stream};
use crate::config::{HostPort, Security, SocketBuffers, TlsConfig};
use crate::error::{Error, ErrorKind, Result};

/// Larger answers are refused. 16 MiB: the largest schemas.
const ANSWER_MAX_BYTES: usize = 16 << 20;

/// Asks servers by HTTP/1.1, encrypted where the URL says `https`. Works inside a tokio runtime.
pub(crate) struct HttpClient {
    clear: Dialer,
    encrypted: Dialer,
    connect_timeout: Duration,
    read_timeout: Duration,
}

/// What a server answered.
pub(crate) struct HttpResponse {
    /// As HTTP has it: 200 and so on.
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl HttpClient {
    /// `connect_timeout` is for each connection with its TLS handshake, `read_timeout` for an answer after that.
    ///
    /// # Errors
    /// `Config`, when certificates or keys cannot be used.
    pub(crate) fn new(tls: &TlsConfig, connect_timeout: Duration, read_timeout: Duration) -> Result<Self> {
        let buffers = SocketBuffers::default();
        let clear = Dialer::new(&Security::default(), buffers)?;
        let encrypted = Dialer::new(&Security { tls: Some(tls.clone()), sasl: None }, buffers)?;
        Ok(Self { clear, encrypted, connect_timeout, read_timeout })
    }

    /// Sends one request and reads its answer, whatever its status. Headers appear in no log and no error.
    ///
    /// # Errors
    /// `Config`, when `url` is not one of http or https or a header is not one; what connecting reports; `Network` or
    /// `Timeout`, when no whole answer of at most 16 MiB comes.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<HttpResponse> {
        let server = Server::parse(url)?;
        let attempted = || format!("{method} {}{}", server.address, server.path.path());
        let in_request = |cause: Error| Error::new(cause.kind(), attempted()).with_cause(cause);
        let request = server.request(method.clone(), headers, body).map_err(in_request)?;
        let dialer = if server.encrypted { &self.encrypted } else { &self.clear };
        let stream = dialer.clone().dial(server.address.clone(), self.connect_timeout).await;
        let stream = stream.map_err(in_request)?;
        match timeout(self.read_timeout, exchange(stream, request)).await {
            Ok(answer) => answer.map_err(in_request),
            Err(_) => {
                let text = format!("{}: no answer within {} ms", attempted(), self.read_timeout.as_millis());
                Err(Error::new(ErrorKind::Timeout, text))
            }
        }
    }
}

/// Where a URL leads.
struct Server {
    encrypted: bool,
    address: HostPort,
    /// Host and port, as the `Host` header has them.
    authority: HeaderValue,
    path: Uri,
}

impl Server {
    fn parse(url: &str) -> Result<Self> {
        // The URL is not repeated: who writes it wrong may have put a password into it.
        let invalid = || Error::new(ErrorKind::Config, "a URL is not of the form https://host:port/path");
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let encrypted = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(invalid()),
        };
        let authority = uri.authority().ok_or_else(invalid)?;
        if authority.as_str().contains('@') {
            return Err(invalid().with_hint("name and password do not go into the URL"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        Ok(Self {
            encrypted,
            address: HostPort { host, port },
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| invalid())?,
            path: uri.path_and_query().map_or("/", |path| path.as_str()).parse().map_err(|_| invalid())?,
        })
    }

    fn request(&self, method: Method, headers: &[(&str, &str)], body: Bytes) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.path.clone();
        request.headers_mut().insert(HOST, self.authority.clone());
        for (name, value) in headers {
            let broken = |_| Error::new(ErrorKind::Config, format!("the header {name} cannot be sent"));
            let key = HeaderName::try_from(*name).map_err(|_| broken(()))?;
            let mut value = HeaderValue::from_str(value).map_err(|_| broken(()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(key, value);
        }
        Ok(request)
    }
}

async fn exchange(stream: Stream, request: Request<Full<Bytes>>) -> Result<HttpResponse> {
    let failed = |cause: hyper::Error| Error::new(ErrorKind::Network, "HTTP").with_cause(cause);
    let (mut sender, connection) = http1::handshake(HyperIo(stream)).await.map_err(failed)?;
    let mut answer = pin!(async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
        let body = body.map_err(|cause| {
            let text = format!("read an answer of at most {ANSWER_MAX_BYTES} bytes: {cause}");
            Error::new(ErrorKind::Network, text)
        })?;
        Ok(HttpResponse { status, body: body.to_bytes() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_and_how() {
        for (url, encrypted, address, path) in [
            (
                "https://idp.example.com/realms/x/token?a=b",
                true,
                "idp.example.com:443",
                "/realms/x/token?a=b",
            ),
            ("http://[::1]:8081", false, "[::1]:8081", "/"),
        ] {
            let server = Server::parse(url).unwrap();
            assert_eq!((server.encrypted, server.address.to_string().as_str()), (encrypted, address));
            assert_eq!(server.path.to_string(), path);
        }
        for url in
            ["", "idp.example.com", "file:///etc/passwd", "ftp://h/", "https://user:canary@h/", "https://"]
        {
            let Err(error) = Server::parse(url) else { panic!("{url}") };
            assert!(error.kind() == ErrorKind::Config && !error.to_string().contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_header_cannot_smuggle_another() {
        let server = Server::parse("http://h/").unwrap();
        let request = server.request(Method::GET, &[("authorization", "canary\r\nx: y")], Bytes::new());
        let error = request.map(drop).unwrap_err().to_string();
        assert_eq!(error, "the header authorization cannot be sent");
    }
}
