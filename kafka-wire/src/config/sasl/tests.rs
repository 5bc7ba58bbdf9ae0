use super::super::{ClientConfig, Properties};
use super::*;

fn read(entries: &[&str]) -> Result<Sasl> {
    let mut properties = Properties::new();
    for entry in ["bootstrap.servers=h:1", "security.protocol=SASL_SSL"].iter().chain(entries) {
        properties.set_entry(entry)?;
    }
    ClientConfig::from_properties(&properties).map(|config| config.security.sasl.unwrap())
}

fn refusal(entries: &[&str]) -> String {
    let error = read(entries).unwrap_err().to_string();
    assert!(!error.contains("canary"), "{error}");
    error
}

const PLAIN: &str = "sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
                     username=\"alice\" password=\"canary\";";
const SCRAM: &str = "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
                     username=\"alice\" password=\"canary\" tokenauth=\"true\";";
const OAUTH: &str = "sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
                     clientId=\"me\" clientSecret=\"canary\" scope=\"kafka\" extension_cluster=\"c-1\";";

#[test]
fn what_java_reads_is_read() {
    let plain = Sasl::Plain { username: "alice".to_owned(), password: Secret::from("canary") };
    assert_eq!(read(&["sasl.mechanism=PLAIN", PLAIN]).unwrap(), plain);
    assert_eq!(read(&[PLAIN]).unwrap(), plain);
    let by_name = ["sasl.mechanism=PLAIN", "sasl.username=alice", "sasl.password=canary"];
    assert_eq!(read(&by_name).unwrap(), plain);
    let scram = Sasl::Scram {
        hash: ScramHash::Sha512,
        username: "alice".to_owned(),
        password: Secret::from("canary"),
        is_delegation_token: true,
    };
    assert_eq!(read(&["sasl.mechanism=SCRAM-SHA-512", SCRAM]).unwrap(), scram);
}

#[test]
fn tokens_come_from_a_provider_a_file_or_nowhere() {
    let url = "sasl.oauthbearer.token.endpoint.url=https://idp.example.com/token";
    let Sasl::OauthBearer { tokens: TokenSource::ClientCredentials(provider), extensions } =
        read(&[OAUTH, url, "sasl.login.refresh.window.factor=0.5"]).unwrap()
    else {
        panic!("not client credentials");
    };
    assert_eq!(extensions, [("cluster".to_owned(), "c-1".to_owned())]);
    assert_eq!((&*provider.client_id, provider.scope.as_deref()), ("me", Some("kafka")));
    assert_eq!((provider.client_secret.clone(), provider.refresh_permille), (Secret::from("canary"), 500));

    let mechanism = "sasl.mechanism=OAUTHBEARER";
    let file = read(&[mechanism, "sasl.oauthbearer.token.file=/run/token"]).unwrap();
    let expected = TokenSource::File("/run/token".into());
    assert_eq!(file, Sasl::OauthBearer { tokens: expected, extensions: Vec::new() });
    let by_url = "sasl.oauthbearer.token.endpoint.url=file:///run/token";
    let class =
        "sasl.oauthbearer.jwt.retriever.class=org.apache.kafka.common.security.oauthbearer.FileJwtRetriever";
    assert_eq!(read(&[mechanism, by_url, class]).unwrap(), file);
    assert!(refusal(&[mechanism, by_url]).contains("sasl.oauthbearer.token.file"));
    assert!(refusal(&[mechanism, "sasl.oauthbearer.token.endpoint.url=http://idp/token"]).contains("https"));
    assert!(refusal(&[mechanism]).contains("a place to get tokens from"));
    assert!(refusal(&[mechanism, url]).contains("client.id"));
}

#[test]
fn what_cannot_work_is_refused_with_what_to_do() {
    for (entries, says) in [
        (&[][..], "needs sasl.mechanism; allowed: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER"),
        (&["sasl.mechanism=GSSAPI"], "SCRAM-SHA-512, OAUTHBEARER or client certificates"),
        (&["sasl.mechanism=DIGEST-MD5"], "allowed: PLAIN"),
        (&["sasl.mechanism=PLAIN", SCRAM], "does not go with sasl.mechanism=PLAIN"),
        (&["sasl.mechanism=PLAIN"], "sasl.username"),
        (&["sasl.mechanism=PLAIN", "sasl.username=a"], "sasl.password"),
        (
            &["sasl.mechanism=PLAIN", "sasl.jaas.config=com.evil.JndiLoginModule required;"],
            "PlainLoginModule",
        ),
        (&[PLAIN, "sasl.login.callback.handler.class=com.example.Mine"], "classes cannot be loaded"),
    ] {
        let error = refusal(entries);
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_password_is_sent_in_the_clear_only_when_that_is_asked_for() {
    let clear = "security.protocol=SASL_PLAINTEXT";
    assert_eq!(
        refusal(&[clear, PLAIN]),
        "security.protocol=SASL_PLAINTEXT with sasl.mechanism=PLAIN sends the password unencrypted; use SASL_SSL, or \
         SCRAM-SHA-512; where nobody can listen, sasl.allow.cleartext=true permits it"
    );
    assert!(read(&[clear, PLAIN, "sasl.allow.cleartext=true"]).is_ok());
    assert!(read(&[clear, SCRAM, "sasl.mechanism=SCRAM-SHA-256"]).is_ok());
    assert!(
        refusal(&[clear, "sasl.mechanism=OAUTHBEARER", "sasl.oauthbearer.token.file=/t"])
            .contains("the token")
    );
}

#[test]
fn nothing_secret_is_shown() {
    for entries in [
        &[PLAIN][..],
        &[SCRAM, "sasl.mechanism=SCRAM-SHA-256"],
        &[OAUTH, "sasl.oauthbearer.token.endpoint.url=https://h/t"],
    ] {
        let shown = format!("{:?}", read(entries).unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }
}
