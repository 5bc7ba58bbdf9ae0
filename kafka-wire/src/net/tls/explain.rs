//! Why TLS failed, in people's words.

use std::io;

use rustls::{AlertDescription, CertificateError};

use crate::error::{Error, ErrorKind};

/// Says in people's words why a handshake failed.
pub(super) fn handshake(error: io::Error, host: &str, roots: &str, has_identity: bool) -> Error {
    let tls = |text: String, hint: &'static str| Error::new(ErrorKind::Tls, text).with_hint(hint);
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(reason)) => explain_certificate(reason, host, roots),
        Some(rustls::Error::InvalidMessage(_)) => tls(
            format!("{host} does not speak TLS on this port"),
            "set security.protocol=PLAINTEXT, or use the port of its TLS listener",
        ),
        Some(rustls::Error::AlertReceived(alert)) => explain_alert(*alert, has_identity),
        Some(other) => Error::new(ErrorKind::Tls, "TLS handshake").with_cause(other.clone()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            // Retriable: a broker that is just stopping looks the same.
            Error::new(ErrorKind::Network, format!("{host} closed the connection during the TLS handshake"))
                .with_hint("if it stays so, the port may be plaintext: check security.protocol")
        }
        None => Error::new(ErrorKind::Network, "TLS handshake").with_cause(error),
    }
}

/// The alert behind a broken connection.
pub(super) fn alert_in(error: &io::Error, has_identity: bool) -> Option<Error> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(explain_alert(*alert, has_identity)),
        _ => None,
    }
}

fn explain_alert(alert: AlertDescription, has_identity: bool) -> Error {
    use AlertDescription::*;
    let tls = |text: String, hint: &'static str| Error::new(ErrorKind::Tls, text).with_hint(hint);
    match alert {
        // Before TLS 1.3 there was no alert for it.
        CertificateRequired | BadCertificate | HandshakeFailure if !has_identity => tls(
            format!("the broker refused the TLS handshake ({alert:?}): it may want a client certificate"),
            "set ssl.keystore.location, or use a listener that wants none",
        ),
        BadCertificate
        | UnsupportedCertificate
        | CertificateRevoked
        | CertificateExpired
        | CertificateUnknown
        | UnknownCA
        | AccessDenied => tls(
            format!("the broker refused the client's certificate: {alert:?}"),
            "check ssl.keystore.location: the certificate's dates, and whether the broker trusts who signed it",
        ),
        ProtocolVersion | InsufficientSecurity | HandshakeFailure => tls(
            format!("the broker refused the TLS handshake: {alert:?}"),
            "it shares no TLS version or cipher with this client (1.3 and 1.2; ssl.enabled.protocols)",
        ),
        other => Error::new(ErrorKind::Tls, format!("the broker ended TLS with the alert {other:?}")),
    }
}

fn explain_certificate(reason: &CertificateError, host: &str, roots: &str) -> Error {
    let error = |text: String| Error::new(ErrorKind::Tls, text);
    match reason {
        CertificateError::UnknownIssuer => {
            error(format!("the certificate of {host} is signed by nobody in {roots}"))
                .with_hint("put the certificate authority that signed it there")
        }
        CertificateError::NotValidForName => error(format!("the certificate of {host} is for another host"))
            .with_hint("connect by a name that it is for, or give the broker a certificate for this one"),
        CertificateError::NotValidForNameContext { presented, .. } => {
            error(format!("the certificate of {host} is for {}, not for {host}", names(presented)))
                .with_hint("connect by a name that it is for, or give the broker a certificate for this one")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            error(format!("the certificate of {host} has expired: {reason}"))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            error(format!("the certificate of {host} is not valid yet: {reason}"))
                .with_hint("check this machine's clock")
        }
        other => error(format!("the certificate of {host} is not acceptable: {other}")),
    }
}

/// rustls writes `DnsName("a.b")`; people want `a.b`.
fn names(presented: &[String]) -> String {
    let plain = presented.iter().map(|name| match (name.find('"'), name.rfind('"')) {
        (Some(start), Some(end)) if start < end => &name[start + 1..end],
        _ => name,
    });
    let plain: Vec<&str> = plain.collect();
    if plain.is_empty() { "no host".to_owned() } else { plain.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_after_the_handshake_names_the_certificate() {
        let alert = |alert| io::Error::other(rustls::Error::AlertReceived(alert));
        let missing = alert_in(&alert(AlertDescription::CertificateRequired), false).unwrap();
        assert_eq!(
            missing.to_string(),
            "the broker refused the TLS handshake (CertificateRequired): it may want a client certificate; set \
             ssl.keystore.location, or use a listener that wants none"
        );
        let unknown = alert_in(&alert(AlertDescription::UnknownCA), true).unwrap().to_string();
        assert!(unknown.starts_with("the broker refused the client's certificate: UnknownCA;"), "{unknown}");
        let version = alert_in(&alert(AlertDescription::ProtocolVersion), true).unwrap().to_string();
        assert!(version.contains("ssl.enabled.protocols"), "{version}");
        assert!(alert_in(&io::ErrorKind::ConnectionReset.into(), false).is_none());
    }
}
