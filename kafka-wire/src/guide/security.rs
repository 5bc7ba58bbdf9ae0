//! A properties file for each way to log in.
//!
//! Each begins with `bootstrap.servers`. Whether the names and values go together is checked before anything is sent;
//! passwords never show in errors, logs or `Debug`. The examples are read as they stand here.
//!
//! TLS, with the operating system's certificate authorities:
//!
//! ```
//! # use kafka_wire::config::{ClientConfig, Properties};
//! # fn read(text: &str) { ClientConfig::from_properties(&Properties::parse(text).unwrap()).unwrap(); }
//! # read("
//! bootstrap.servers=kafka.example.com:9093
//! security.protocol=SSL
//! # ");
//! ```
//!
//! An authority of your own, in PEM or PKCS#12 (by its first bytes), and a client's certificate (mTLS):
//!
//! ```
//! # use kafka_wire::config::{ClientConfig, Properties};
//! # fn read(text: &str) { ClientConfig::from_properties(&Properties::parse(text).unwrap()).unwrap(); }
//! # read("
//! # bootstrap.servers=kafka.example.com:9093
//! security.protocol=SSL
//! ssl.truststore.location=/etc/kafka/ca.pem
//! ssl.keystore.location=/etc/kafka/me.p12
//! ssl.keystore.password=secret
//! # ");
//! ```
//!
//! SCRAM, and with the same lines but `SCRAM-SHA-256` or `PLAIN` those; or Java's `sasl.jaas.config` as it is:
//!
//! ```
//! # use kafka_wire::config::{ClientConfig, Properties};
//! # fn read(text: &str) { ClientConfig::from_properties(&Properties::parse(text).unwrap()).unwrap(); }
//! # read("
//! # bootstrap.servers=kafka.example.com:9093
//! security.protocol=SASL_SSL
//! sasl.mechanism=SCRAM-SHA-512
//! sasl.username=alice
//! sasl.password=secret
//! # ");
//! # read(r#"
//! # bootstrap.servers=kafka.example.com:9093
//! # security.protocol=SASL_SSL
//! # sasl.mechanism=PLAIN
//! # sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="alice" password="secret";
//! # "#);
//! ```
//!
//! A delegation token logs in by SCRAM, too: `sasl.jaas.config` with the token's id and HMAC and `tokenauth="true"`.
//!
//! OAuth: tokens of an OpenID provider, or out of a file that something else keeps fresh
//! (`sasl.oauthbearer.token.file`), or of your own code ([`TokenProvider`](crate::config::TokenProvider)):
//!
//! ```
//! # use kafka_wire::config::{ClientConfig, Properties};
//! # fn read(text: &str) { ClientConfig::from_properties(&Properties::parse(text).unwrap()).unwrap(); }
//! # read("
//! # bootstrap.servers=kafka.example.com:9093
//! security.protocol=SASL_SSL
//! sasl.mechanism=OAUTHBEARER
//! sasl.oauthbearer.token.endpoint.url=https://login.example.com/oauth2/token
//! sasl.oauthbearer.client.credentials.client.id=billing
//! sasl.oauthbearer.client.credentials.client.secret=secret
//! sasl.oauthbearer.scope=kafka
//! # ");
//! ```
//!
//! # What differs from Java
//!
//! - The host's name in a certificate is always checked; `ssl.endpoint.identification.algorithm=` is an error.
//! - `PLAIN` and `OAUTHBEARER` without TLS need `sasl.allow.cleartext=true`.
//! - JKS stores are not read (`keytool -importkeystore … -deststoretype PKCS12` makes one that is), Kerberos is not spoken.
//! - Files of certificates and keys that change are read with the next connection; sessions are renewed in time (KIP-368).
