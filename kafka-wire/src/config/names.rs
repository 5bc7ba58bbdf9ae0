//! The property names: those that are read, and those that only Java's client does something with.

/// Read by this client.
pub(super) const READ: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "basic.auth.credentials.source",
    "basic.auth.user.info",
    "batch.size",
    "bearer.auth.credentials.source",
    "bearer.auth.token",
    "bootstrap.servers",
    "buffer.memory",
    "check.crcs",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.gzip.level",
    "compression.type",
    "compression.zstd.level",
    "connections.max.idle.ms",
    "default.api.timeout.ms",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.idempotence",
    "enable.metrics.push",
    "exclude.internal.topics",
    "fetch.max.bytes",
    "fetch.max.wait.ms",
    "fetch.min.bytes",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "isolation.level",
    "linger.ms",
    "max.block.ms",
    "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "max.poll.records",
    "max.request.size",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "partition.assignment.strategy",
    "partitioner.adaptive.partitioning.enable",
    "partitioner.availability.timeout.ms",
    "partitioner.class",
    "partitioner.ignore.keys",
    "partitioner.rack.aware",
    "queued.max.bytes",
    "receive.buffer.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retries",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.allow.cleartext",
    "sasl.client.callback.handler.class",
    "sasl.jaas.config",
    "sasl.login.callback.handler.class",
    "sasl.login.class",
    "sasl.login.connect.timeout.ms",
    "sasl.login.read.timeout.ms",
    "sasl.login.refresh.window.factor",
    "sasl.login.retry.backoff.max.ms",
    "sasl.login.retry.backoff.ms",
    "sasl.mechanism",
    "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.header.urlencode",
    "sasl.oauthbearer.jwt.retriever.class",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.oauthbearer.token.file",
    "sasl.password",
    "sasl.username",
    "schema.registry.basic.auth.credentials.source",
    "schema.registry.basic.auth.user.info",
    "schema.registry.bearer.auth.credentials.source",
    "schema.registry.bearer.auth.token",
    "schema.registry.url",
    "security.protocol",
    "send.buffer.bytes",
    "session.timeout.ms",
    "share.acknowledgement.mode",
    "share.acquire.mode",
    "socket.connection.setup.timeout.max.ms",
    "socket.connection.setup.timeout.ms",
    "ssl.cipher.suites",
    "ssl.enabled.protocols",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
    "transaction.timeout.ms",
    "transaction.two.phase.commit.enable",
    "transactional.id",
];

/// Refused: to go on without them would do something else than what the file says.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("config.providers", "values with ${…} would be taken literally; put the values in"),
    ("sasl.oauthbearer.assertion.algorithm", NO_ASSERTIONS),
    ("sasl.oauthbearer.assertion.claim.aud", NO_ASSERTIONS),
    ("sasl.oauthbearer.assertion.claim.exp.seconds", NO_ASSERTIONS),
    ("sasl.oauthbearer.assertion.claim.iss", NO_ASSERTIONS),
    ("sasl.oauthbearer.assertion.claim.jti.include", NO_ASSERTIONS),
    ("sasl.oauthbearer.assertion.claim.nbf.seconds", NO_ASSERTIONS),
    ("sasl.oauthbearer.assertion.claim.sub", NO_ASSERTIONS),
    ("sasl.oauthbearer.assertion.file", NO_ASSERTIONS),
    ("sasl.oauthbearer.assertion.private.key.file", NO_ASSERTIONS),
    ("sasl.oauthbearer.assertion.private.key.passphrase", NO_ASSERTIONS),
    ("sasl.oauthbearer.assertion.template.file", NO_ASSERTIONS),
];

const NO_ASSERTIONS: &str = "the client proves itself to token endpoints by id and secret only; what gets tokens by \
    assertions can be a TokenProvider, or write sasl.oauthbearer.token.file";

/// Known to Java's producer, consumer or admin client of Kafka 4.3, and without a meaning here; each with the reason,
/// which is logged.
pub(super) const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("bootstrap.controllers", "brokers pass on what is for the controllers: set bootstrap.servers"),
    ("compression.lz4.level", "there is one level of LZ4 here, the fast one; zstd and gzip have levels"),
    (
        "interceptor.classes",
        "classes cannot be loaded: ProducerBuilder::interceptor takes one, and a consumer is a loop of yours",
    ),
    ("key.deserializer", BYTES),
    ("key.serializer", BYTES),
    ("metadata.max.idle.ms", "topics stay known while the producer lives"),
    ("metric.reporters", "figures go to the recorder that the application installs for the crate `metrics`"),
    ("metrics.num.samples", TOTALS),
    ("metrics.recording.level", "all figures are always kept, which costs nothing per record"),
    ("metrics.sample.window.ms", TOTALS),
    ("sasl.kerberos.kinit.cmd", NO_KERBEROS),
    ("sasl.kerberos.min.time.before.relogin", NO_KERBEROS),
    ("sasl.kerberos.service.name", NO_KERBEROS),
    ("sasl.kerberos.ticket.renew.jitter", NO_KERBEROS),
    ("sasl.kerberos.ticket.renew.window.factor", NO_KERBEROS),
    ("sasl.login.refresh.buffer.seconds", NO_LOGIN_THREAD),
    ("sasl.login.refresh.min.period.seconds", NO_LOGIN_THREAD),
    ("sasl.login.refresh.window.jitter", NO_LOGIN_THREAD),
    ("sasl.oauthbearer.clock.skew.seconds", BROKERS_JUDGE),
    ("sasl.oauthbearer.expected.audience", BROKERS_JUDGE),
    ("sasl.oauthbearer.expected.issuer", BROKERS_JUDGE),
    ("sasl.oauthbearer.jwks.endpoint.refresh.ms", BROKERS_JUDGE),
    ("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", BROKERS_JUDGE),
    ("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", BROKERS_JUDGE),
    ("sasl.oauthbearer.jwks.endpoint.url", BROKERS_JUDGE),
    ("sasl.oauthbearer.jwt.validator.class", BROKERS_JUDGE),
    ("sasl.oauthbearer.scope.claim.name", BROKERS_JUDGE),
    ("sasl.oauthbearer.sub.claim.name", BROKERS_JUDGE),
    ("security.providers", BY_RUSTLS),
    ("ssl.engine.factory.class", BY_RUSTLS),
    ("ssl.keymanager.algorithm", BY_RUSTLS),
    ("ssl.protocol", BY_RUSTLS),
    ("ssl.provider", BY_RUSTLS),
    ("ssl.secure.random.implementation", BY_RUSTLS),
    ("ssl.trustmanager.algorithm", BY_RUSTLS),
    ("value.deserializer", BYTES),
    ("value.serializer", BYTES),
];

const BROKERS_JUDGE: &str = "brokers judge tokens, the client passes them on";
const BYTES: &str =
    "records are bytes; with the feature `schema` those of schema registries are read and written";
const BY_RUSTLS: &str = "TLS is done by rustls; ssl.enabled.protocols and ssl.cipher.suites choose";
const NO_KERBEROS: &str = "Kerberos is not supported, and nothing else needs it";
const NO_LOGIN_THREAD: &str =
    "a token is got when a connection needs it; sasl.login.refresh.window.factor says how long it is kept";
const TOTALS: &str = "figures are totals; rates over windows are made where they are collected";

/// Names of librdkafka's, and of old clients, with Java's for the same.
const ELSEWHERE: &[(&str, &str)] = &[
    ("broker.address.ttl", "metadata.max.age.ms"),
    ("compression.codec", "compression.type"),
    ("compression.level", "compression.zstd.level"),
    ("enable.ssl.certificate.verification", "ssl.truststore.location"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("fetch.wait.max.ms", "fetch.max.wait.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("message.max.bytes", "max.request.size"),
    ("message.send.max.retries", "retries"),
    ("message.timeout.ms", "delivery.timeout.ms"),
    ("metadata.broker.list", "bootstrap.servers"),
    ("metadata.request.timeout.ms", "request.timeout.ms"),
    ("partitioner", "partitioner.class"),
    ("queue.buffering.max.kbytes", "buffer.memory"),
    ("queue.buffering.max.messages", "buffer.memory"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("queued.max.messages.kbytes", "queued.max.bytes"),
    ("request.required.acks", "acks"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("sasl.oauthbearer.client.id", "sasl.oauthbearer.client.credentials.client.id"),
    ("sasl.oauthbearer.client.secret", "sasl.oauthbearer.client.credentials.client.secret"),
    ("socket.receive.buffer.bytes", "receive.buffer.bytes"),
    ("socket.send.buffer.bytes", "send.buffer.bytes"),
    ("socket.timeout.ms", "request.timeout.ms"),
    ("ssl.ca.location", "ssl.truststore.location"),
    ("ssl.ca.pem", "ssl.truststore.certificates"),
    ("ssl.certificate.location", "ssl.keystore.location"),
    ("ssl.certificate.pem", "ssl.keystore.certificate.chain"),
    ("ssl.key.location", "ssl.keystore.location"),
    ("ssl.key.pem", "ssl.keystore.key"),
    ("topic.metadata.refresh.interval.ms", "metadata.max.age.ms"),
];

/// Java's name for what librdkafka calls `name`.
pub(super) fn javas_name(name: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(other, _)| *other == name).map(|(_, javas)| *javas)
}

/// Why a property of Java's does nothing here.
pub(super) fn why_without_effect(name: &str) -> Option<&'static str> {
    WITHOUT_EFFECT.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

/// A Java class without its package: what is compared, since packages move.
pub(super) fn short_class_name(name: &str) -> &str {
    name.rsplit(['.', '$']).next().unwrap_or(name)
}

/// Whether a value of this name must never be shown.
pub(super) fn is_secret(name: &str) -> bool {
    ["password", "passphrase", "secret", "jaas", "keystore.key", "auth.user.info", "auth.token"]
        .iter()
        .any(|word| name.contains(word))
}

/// The known name, or one of the application's, that takes the fewest edits to reach from `name`.
pub(super) fn nearest(name: &str, more: &[&'static str]) -> Option<&'static str> {
    READ.iter()
        .chain(WITHOUT_EFFECT.iter().map(|(known, _)| known))
        .chain(more)
        .map(|known| (edit_distance(name, known), *known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 2)
        .map(|(_, known)| known)
}

/// Optimal string alignment distance: insert, delete, replace, or swap two neighbours.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let mut best = (above[j + 1] + 1).min(row[j] + 1).min(above[j] + usize::from(from != to));
            if i > 0 && j > 0 && a[i - 1] == *to && *from == b[j - 1] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        for (typed, meant) in [
            ("bootstrap.server", "bootstrap.servers"),
            ("lingre.ms", "linger.ms"),
            ("linger", "linger.ms"),
            ("auto.offset.rest", "auto.offset.reset"),
            ("enable.idempotent", "enable.idempotence"),
            ("compresion.type", "compression.type"),
        ] {
            assert_eq!(nearest(typed, &[]), Some(meant), "{typed}");
        }
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn tables_are_sorted_and_disjoint() {
        let names = |table: &[(&'static str, &str)]| table.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let tables = [READ.to_vec(), names(WITHOUT_EFFECT), names(REFUSED), names(ELSEWHERE)];
        for (index, table) in tables.iter().enumerate() {
            assert!(table.is_sorted_by(|a, b| a < b), "{table:?}");
            let mut others = tables.iter().skip(index + 1).flatten();
            assert_eq!(others.find(|name| table.contains(name)), None);
        }
    }

    #[test]
    fn names_of_other_clients_lead_to_names_that_are_read() {
        for (other, javas) in ELSEWHERE {
            assert!(READ.contains(javas), "{other}");
        }
        assert_eq!(javas_name("metadata.broker.list"), Some("bootstrap.servers"));
        assert_eq!(javas_name("linger.ms"), None);
    }

    #[test]
    fn secrets_are_recognised() {
        assert!(is_secret("ssl.truststore.password") && is_secret("sasl.jaas.config"));
        assert!(is_secret("sasl.oauthbearer.client.credentials.client.secret"));
        assert!(!is_secret("bootstrap.servers"));
    }
}
