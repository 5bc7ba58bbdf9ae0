//! SASL with a real broker: every mechanism, with right and wrong credentials, once and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kafka_wire::config::{ClientConfig, ProducerConfig, Properties, Sasl, TokenProvider, TokenSource};
use kafka_wire::{Admin, ErrorKind, NewTopic, Producer, Record};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidewater_tests::programs::tidewater;
use tidewater_tests::real_kafka;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::secured::{SESSION_MS, Secured, certificate, describe, properties, write_and_read};
use crate::support::{create, run, wait_until};

/// Runs a test on the node with secured listeners, where real Kafka can be run.
fn on_secured<F: Future<Output = ()>>(test: impl FnOnce(&'static Secured) -> F) {
    if real_kafka::available() {
        run(test(Secured::shared()));
    }
}

const PACKAGE: &str = "org.apache.kafka.common.security";

fn user(mechanism: &str, name: &str, password: &str) -> String {
    let module = if mechanism == "PLAIN" { "plain.PlainLoginModule" } else { "scram.ScramLoginModule" };
    format!("{PACKAGE}.{module} required username=\"{name}\" password=\"{password}\";")
}

/// A client with a name and password, or with a token that says the name where the mechanism is OAUTHBEARER.
fn sasl(port: u16, protocol: &str, mechanism: &str, name: &str, password: &str) -> Properties {
    let jaas = match mechanism {
        "OAUTHBEARER" => format!(
            "{PACKAGE}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"{name}\";"
        ),
        mechanism => user(mechanism, name, password),
    };
    let more = [("sasl.mechanism", mechanism), ("sasl.jaas.config", &jaas), ("sasl.allow.cleartext", "true")];
    properties(port, protocol, &more)
}

#[test]
fn every_mechanism_works_in_the_clear_and_over_tls() {
    on_secured(every_mechanism_works);
}

#[test]
fn every_mechanism_works_on_3_9() {
    if real_kafka::available() {
        run(every_mechanism_works(Secured::shared_3_9()));
    }
}

async fn every_mechanism_works(node: &'static Secured) {
    for (protocol, port) in [("SASL_PLAINTEXT", node.sasl_port), ("SASL_SSL", node.sasl_tls_port)] {
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] {
            let properties = sasl(port, protocol, mechanism, "alice", "alice-secret");
            write_and_read(node, &format!("by-{protocol}-{mechanism}"), &properties).await;
            let wrong = sasl(port, protocol, mechanism, "alice", "wrong");
            if mechanism != "OAUTHBEARER" {
                assert!(refusal(&wrong).await.contains(&format!("authenticate by {mechanism}")));
            }
        }
    }
}

pub async fn refusal(properties: &Properties) -> String {
    let error = describe(properties).await.expect_err("it must not be let in");
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    assert!(error.is_fatal() && !error.is_retriable());
    let text = error.to_string();
    text.strip_prefix("describe the cluster: ").expect("what was attempted").to_owned()
}

#[test]
fn wrong_credentials_are_told_in_full() {
    on_secured(|node| async {
        let port = node.sasl_port;
        for (mechanism, says) in [
            ("PLAIN", "Authentication failed: Invalid username or password"),
            (
                "SCRAM-SHA-256",
                "Authentication failed during authentication due to invalid credentials with SASL mechanism \
                 SCRAM-SHA-256",
            ),
            (
                "SCRAM-SHA-512",
                "Authentication failed during authentication due to invalid credentials with SASL mechanism \
                 SCRAM-SHA-512",
            ),
        ] {
            for (name, password) in [("alice", "wrong"), ("nobody", "alice-secret")] {
                let text = refusal(&sasl(port, "SASL_PLAINTEXT", mechanism, name, password)).await;
                assert_eq!(
                    text,
                    format!(
                        "authenticate to localhost:{port}: authenticate by {mechanism}: the broker says {says:?}; \
                         check the user's name and password, or token"
                    )
                );
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let token = folder.path().join("token");
        std::fs::write(&token, "bm90LWpzb24.bm90LWpzb24.\n").expect("write a token");
        let more = [
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.token.file", token.to_str().expect("a path")),
            ("sasl.allow.cleartext", "true"),
        ];
        let text = refusal(&properties(port, "SASL_PLAINTEXT", &more)).await;
        assert!(
            text.contains("authenticate by OAUTHBEARER: the broker says") && text.contains("or token"),
            "{text}"
        );
    });
}

#[test]
fn a_listener_that_wants_something_else_is_told_with_the_setting_to_change() {
    on_secured(|node| async {
        let plain = sasl(node.renew_port, "SASL_PLAINTEXT", "PLAIN", "alice", "alice-secret");
        assert_eq!(
            refusal(&plain).await,
            format!(
                "authenticate to localhost:{}: authenticate by PLAIN: the broker refuses the mechanism: \
                 UNSUPPORTED_SASL_MECHANISM (33): {}; set sasl.mechanism to one that this listener has: SCRAM-SHA-512",
                node.renew_port,
                kafka_wire::ErrorCode::UNSUPPORTED_SASL_MECHANISM
                    .to_string()
                    .split(": ")
                    .nth(1)
                    .unwrap_or_default(),
            )
        );
        let none =
            node.cluster.bootstrap().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let text = refusal(&sasl(none, "SASL_PLAINTEXT", "SCRAM-SHA-256", "alice", "alice-secret")).await;
        assert!(
            text.ends_with("this listener may be without SASL: set security.protocol=PLAINTEXT or SSL"),
            "{text}"
        );
        let error = describe(&properties(node.sasl_port, "PLAINTEXT", &[])).await.expect_err("no SASL");
        assert!(error.to_string().contains("may want SASL: check security.protocol"), "{error}");
    });
}

/// Kafka's own tool makes a token; whoever has it is the user who asked for it.
#[test]
fn a_delegation_token_is_as_good_as_its_owner() {
    on_secured(|node| async {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("alice.properties");
        let text = format!(
            "bootstrap.servers=localhost:{}\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-256\n\
             sasl.jaas.config={}\n",
            node.sasl_port,
            user("SCRAM-SHA-256", "alice", "alice-secret")
        );
        std::fs::write(&config, text).expect("write a configuration");
        let made = node.cluster.tool_at(
            &format!("localhost:{}", node.sasl_port),
            "DelegationTokenCommand",
            &[
                "--create",
                "--max-life-time-period",
                "-1",
                "--command-config",
                config.to_str().expect("a path"),
            ],
        );
        // TOKENID HMAC OWNER …
        let row = made.lines().find(|line| line.contains("User:alice")).unwrap_or_else(|| panic!("{made}"));
        let [id, hmac] = row.split_whitespace().take(2).collect::<Vec<_>>()[..] else { panic!("{made}") };
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let token = user(mechanism, id, hmac).replace(';', " tokenauth=\"true\";");
            let more = [("sasl.mechanism", mechanism), ("sasl.jaas.config", token.as_str())];
            let with_token = properties(node.sasl_port, "SASL_PLAINTEXT", &more);
            // The controller makes the token, and the broker learns of it some moments later.
            wait_until("the token is accepted", async || describe(&with_token).await.is_ok()).await;
            let not_as_token = user(mechanism, id, hmac);
            let more = [("sasl.mechanism", mechanism), ("sasl.jaas.config", not_as_token.as_str())];
            refusal(&properties(node.sasl_port, "SASL_PLAINTEXT", &more)).await;
        }
    });
}

/// KIP-368: the broker wants to know again and again who this is, and no record is late, lost or written twice for it.
#[test]
fn sessions_are_renewed_on_the_same_connection_under_load() {
    const HANDSHAKE: i16 = 17;
    const VERSIONS: i16 = 18;
    on_secured(|node| async {
        let mut settings = sasl(node.renew_port, "SASL_PLAINTEXT", "SCRAM-SHA-512", "alice", "alice-secret");
        settings.set("client.id", "renewing").expect("set");
        // Holding back for no time counts and changes nothing.
        let counted = tidewater_tests::proxy::Fault::HoldRequest(Duration::ZERO);
        for api in [HANDSHAKE, VERSIONS] {
            node.renew_proxy.rule_for("renewing", api, 0, usize::MAX, counted.clone());
        }
        create(&node.cluster, NewTopic::new("renewed", 1)).await;
        let config = ProducerConfig::from_properties(&settings).expect("a configuration");
        let producer = Producer::new(config).expect("a producer");
        let mut count = 0;
        // Three sessions end in the meantime, however fast the machine is.
        while node.renew_proxy.hits(HANDSHAKE) < node.renew_proxy.hits(VERSIONS) + 3 {
            let values: Vec<String> = (0..100).map(|n| (count + n).to_string()).collect();
            let sent: Vec<_> =
                values.iter().map(|value| producer.send(Record::to("renewed").value(value))).collect();
            for receipt in sent {
                let written = receipt.await.expect("a session's end must not show");
                assert_eq!(written.offset, Some(count));
                count += 1;
            }
        }
        // One connection for metadata, one for the records.
        assert!(node.renew_proxy.hits(VERSIONS) <= 3, "{} connections", node.renew_proxy.hits(VERSIONS));
        assert!(count > 0 && SESSION_MS > 0);
    });
}

/// An OpenID provider that knows one client, behind TLS. It answers the `n`th request as `answers[n]` says, the last
/// one for ever.
#[allow(clippy::disallowed_methods, reason = "a server that ends with its test, and counts what it reads")]
pub async fn provider(answers: &[&str]) -> u16 {
    let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    let chain = CertificateDer::pem_file_iter(certificate("good.pem")).expect("a certificate");
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(certificate("good.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a key for the certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        for n in 0.. {
            let (stream, _) = listener.accept().await.expect("accept");
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = vec![0; 4096];
            let mut length = 0;
            while !request[..length].ends_with(b"grant_type=client_credentials&scope=kafka+all") {
                match stream.read(&mut request[length..]).await {
                    Ok(0) | Err(_) => break,
                    Ok(more) => length += more,
                }
            }
            let text = String::from_utf8_lossy(&request[..length]).to_lowercase();
            // tidewater:canary, as `printf tidewater:canary | base64` has it.
            let right = text.contains("authorization: basic dglkzxdhdgvyomnhbmfyeq==");
            let answer = &answers[n.min(answers.len() - 1)];
            let (status, body) = match answer.split_once(' ') {
                Some((status, body)) if right => (status, body),
                _ => ("401", r#"{"error":"invalid_client","error_description":"no such client"}"#),
            };
            let answer = format!(
                "HTTP/1.1 {status} Whatever\r\nlocation: https://evil.example.com/\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            // The client may have gone.
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

/// `{"alg":"none"}` and `{"sub":"alice","iat":1600000000,"exp":4000000000}`.
const TOKEN_ANSWER: &str = "200 {\"access_token\":\"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImlhdCI6MTYwMDAwMDAwMCwiZXhwIjo0MDAwMDAwMDAwfQ.\"}";

pub fn with_provider(broker: u16, protocol: &str, provider: u16, secret: &str) -> Properties {
    let jaas = format!(
        "{PACKAGE}.oauthbearer.OAuthBearerLoginModule required clientId=\"tidewater\" clientSecret=\"{secret}\" \
         scope=\"kafka all\" ssl.truststore.location=\"{}\";",
        certificate("authority.pem").display()
    );
    let url = format!("https://localhost:{provider}/token");
    let more = [
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.token.endpoint.url", url.as_str()),
        ("sasl.jaas.config", &jaas),
    ];
    properties(broker, protocol, &more)
}

#[test]
fn a_token_comes_from_an_openid_provider_that_may_fail_at_first() {
    on_secured(|node| async {
        let provider = provider(&["503 {}", TOKEN_ANSWER]).await;
        let described = describe(&with_provider(node.sasl_tls_port, "SASL_SSL", provider, "canary")).await;
        assert_eq!(described.expect("a token").brokers.len(), 1);
    });
}

/// Tokens of the application's own making, one for each connection; its failure is the client's.
#[test]
fn an_application_brings_its_own_tokens() {
    on_secured(|node| async {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let tokens = TokenProvider::new(move || match count.fetch_add(1, Ordering::Relaxed) {
            0 => {
                Ok("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImlhdCI6MTYwMDAwMDAwMCwiZXhwIjo0MDAwMDAwMDAwfQ."
                    .to_owned())
            }
            _ => Err(std::io::Error::other("the vault is shut")),
        });
        let mut config =
            ClientConfig::from_properties(&properties(node.sasl_tls_port, "SSL", &[])).expect("settings");
        let (tokens, extensions) = (TokenSource::Provider(tokens), Vec::new());
        config.security.sasl = Some(Sasl::OauthBearer { tokens, extensions });
        let admin = Admin::new(config.clone()).expect("an admin client");
        assert_eq!(admin.describe_cluster().await.expect("a token").brokers.len(), 1);
        let admin = Admin::new(config).expect("an admin client");
        let error = admin.describe_cluster().await.expect_err("no token");
        assert_eq!(error.kind(), ErrorKind::Authentication);
        assert!(
            error.to_string().ends_with("get a token from the application: the vault is shut"),
            "{error}"
        );
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_provider_that_refuses_is_told_and_its_redirects_are_not_followed() {
    on_secured(|node| async {
        let port = node.sasl_tls_port;
        let refusing = provider(&[TOKEN_ANSWER]).await;
        assert_eq!(
            refusal(&with_provider(port, "SASL_SSL", refusing, "wrong")).await,
            format!(
                "authenticate to localhost:{port}: get an OAuth token from https://localhost:{refusing}/token: it \
                 answers HTTP status 401 (invalid_client no such client); check \
                 sasl.oauthbearer.client.credentials.client.id and .secret"
            )
        );
        let moved = provider(&["302 {}"]).await;
        let text = refusal(&with_provider(port, "SASL_SSL", moved, "canary")).await;
        assert!(text.contains("HTTP status 302; redirects are not followed"), "{text}");
        let empty = provider(&["200 {}"]).await;
        let text = refusal(&with_provider(port, "SASL_SSL", empty, "canary")).await;
        assert!(text.ends_with("the provider's answer has no access_token"), "{text}");
    });
}

/// The program at its most talkative, with right and wrong secrets of each kind: no output repeats one.
#[test]
fn no_secret_is_ever_shown() {
    on_secured(|node| async {
        let provider = provider(&[TOKEN_ANSWER]).await;
        let folder = tempfile::tempdir().expect("a folder");
        let (port, tls) = (node.sasl_port, node.sasl_tls_port);

        let jaas = |mechanism: &str, password: &str| {
            format!("sasl.mechanism={mechanism}\nsasl.jaas.config={}\n", user(mechanism, "alice", password))
        };
        let oauth = |secret: &str| {
            format!(
                "sasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.token.endpoint.url=https://localhost:{provider}/token\n\
                 sasl.jaas.config={PACKAGE}.oauthbearer.OAuthBearerLoginModule required clientId=\"tidewater\" \
                 clientSecret=\"{secret}\" scope=\"kafka all\" ssl.truststore.location=\"{}\";\n",
                certificate("authority.pem").display()
            )
        };
        let mutual = |password: &str| {
            format!(
                "ssl.keystore.location={}\nssl.keystore.password={password}\n",
                certificate("client.p12").display()
            )
        };
        for (port, protocol, rest, fails) in [
            (port, "SASL_PLAINTEXT\nsasl.allow.cleartext=true", jaas("PLAIN", "alice-secret"), false),
            (port, "SASL_PLAINTEXT\nsasl.allow.cleartext=true", jaas("PLAIN", "canary"), true),
            (tls, "SASL_SSL", jaas("SCRAM-SHA-512", "alice-secret"), false),
            (tls, "SASL_SSL", jaas("SCRAM-SHA-512", "canary"), true),
            (tls, "SASL_SSL", oauth("canary"), false),
            (tls, "SASL_SSL", oauth("canary-2"), true),
            (node.mutual_port, "SSL", mutual("canary"), false),
            (node.mutual_port, "SSL", mutual("canary-2"), true),
            // A broken line is not repeated either.
            (tls, "SASL_SSL", "sasl.jaas.config=canary canary \"canary\n".to_owned(), true),
        ] {
            let file = folder.path().join("kafka.properties");
            let text = format!(
                "bootstrap.servers=localhost:{port}\nsecurity.protocol={protocol}\nssl.truststore.location={}\n{rest}",
                certificate("authority.pem").display()
            );
            std::fs::write(&file, text).expect("write the properties");
            let child = tokio::process::Command::new(tidewater())
                .args(["topic", "list", "--config"])
                .arg(&file)
                .env("RUST_LOG", "trace")
                .output();
            let output = child.await.expect("run the program");
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert_eq!(output.status.success(), !fails, "{text}");
            for secret in
                ["alice-secret", "canary", "eyJhbGciOiJub25lIn0", "YWxpY2U", "dGlkZXdhdGVyOmNhbmFyeQ"]
            {
                assert!(!text.contains(secret), "{secret} in:\n{text}");
            }
            assert!(text.contains("holds secrets, and others can read it: chmod 600"), "{text}");
        }
    });
}
