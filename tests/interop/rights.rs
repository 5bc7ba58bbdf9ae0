//! Rights and passwords that a real broker takes away under way, and gives back: what is refused says so, and what was
//! acknowledged is there, once.

use std::time::Duration;

use kafka_wire::admin::{AclBinding, AclFilter, AclOperation, ResourceType, ScramChange, ScramMechanism};
use kafka_wire::config::{ConsumerConfig, OffsetReset, ProducerConfig, Properties, Secret};
use kafka_wire::{
    Admin, Consumer, Error, ErrorCode, ErrorKind, Isolation, NewTopic, Producer, Record, TopicPartition,
};
use tidewater_tests::real_kafka;

use crate::secured::{Secured, properties};
use crate::support::{admin, create, read_all, run, wait_until};

/// A user of the node, who may do only what an entry allows wherever there are entries.
struct User {
    node: &'static Secured,
    name: &'static str,
    admin: Admin,
}

impl User {
    async fn new(name: &'static str) -> Self {
        let node = Secured::shared();
        let user = Self { node, name, admin: admin(&node.cluster) };
        user.set_password(ScramMechanism::Sha256, "a password").await;
        user
    }

    async fn set_password(&self, mechanism: ScramMechanism, password: &str) {
        let password = Secret::from(password);
        let change =
            ScramChange::Upsert { user: self.name.to_owned(), mechanism, iterations: 4096, password };
        for (_, set) in self.admin.alter_user_scram_credentials([change]).await.expect("passwords") {
            set.expect("set the password");
        }
    }

    fn properties(&self, port: u16, mechanism: &str, password: &str) -> Properties {
        let jaas = format!(
            "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"{}\" \
             password=\"{password}\";",
            self.name
        );
        let more =
            [("sasl.mechanism", mechanism), ("sasl.jaas.config", &jaas), ("sasl.allow.cleartext", "true")];
        properties(port, "SASL_PLAINTEXT", &more)
    }

    fn producer(&self, change: impl FnOnce(&mut ProducerConfig)) -> Producer {
        let properties = self.properties(self.node.sasl_port, "SCRAM-SHA-256", "a password");
        let mut config = ProducerConfig::from_properties(&properties).expect("a configuration");
        change(&mut config);
        Producer::new(config).expect("a producer")
    }

    fn right(&self, operation: AclOperation, resource: ResourceType, name: &str) -> AclBinding {
        AclBinding::allow(format!("User:{}", self.name), operation, resource, name)
    }

    /// Has an entry for somebody else, too: without any, everybody may.
    async fn grant(&self, entry: &AclBinding) {
        let others = AclBinding { principal: "User:nobody".to_owned(), ..entry.clone() };
        for (entry, created) in self.admin.create_acls([others, entry.clone()]).await.expect("acls") {
            created.unwrap_or_else(|error| panic!("{entry}: {error}"));
        }
    }

    async fn revoke(&self, entry: &AclBinding) {
        let filter = AclFilter::from(entry.clone());
        for (_, deleted) in self.admin.delete_acls([filter]).await.expect("acls") {
            assert_eq!(deleted.expect("deleted").len(), 1);
        }
    }
}

fn with_user<F: Future<Output = ()>>(name: &'static str, test: impl FnOnce(User) -> F) {
    if real_kafka::available() {
        run(async { test(User::new(name).await).await });
    }
}

async fn log(user: &User, topic: &str) -> Vec<String> {
    let entries = read_all(&user.node.cluster, topic, Isolation::ReadCommitted).await;
    entries.into_iter().map(|entry| entry.value).collect()
}

/// Sends numbers until one is refused; the broker may learn of a change later than this.
async fn send_until_refused(producer: &Producer, topic: &str, written: &mut Vec<String>) -> Error {
    loop {
        let value = written.len().to_string();
        match producer.send(Record::to(topic).value(&value)).await {
            Ok(_) => written.push(value),
            Err(error) => return error,
        }
    }
}

/// The same producer goes on when it may again; what was refused is not in the log.
#[test]
fn a_producer_that_may_not_write_any_more_says_so_and_goes_on_when_it_may() {
    with_user("writing", async |user| {
        const TOPIC: &str = "rights-to-write";
        create(&user.node.cluster, NewTopic::new(TOPIC, 1)).await;
        let write = user.right(AclOperation::Write, ResourceType::Topic, TOPIC);
        let describe = user.right(AclOperation::Describe, ResourceType::Topic, TOPIC);
        let (producer, mut written) = (user.producer(|_| ()), Vec::new());
        user.grant(&describe).await;
        // First the answer to Produce refuses, then the topic is not even shown.
        for sees_the_topic in [true, false] {
            user.grant(&write).await;
            wait_until("it may write", async || {
                let value = written.len().to_string();
                let sent = producer.send(Record::to(TOPIC).value(&value)).await;
                sent.map(|_| written.push(value)).is_ok()
            })
            .await;
            if !sees_the_topic {
                user.revoke(&describe).await;
            }
            user.revoke(&write).await;
            let error = send_until_refused(&producer, TOPIC, &mut written).await;
            assert_eq!(error.code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED), "{error}");
            assert!(!error.possibly_written() && error.to_string().contains(TOPIC), "{error}");
        }
        user.grant(&write).await;
        wait_until("it may write again", async || {
            let value = written.len().to_string();
            let sent = producer.send(Record::to(TOPIC).value(&value)).await;
            sent.map(|_| written.push(value)).is_ok()
        })
        .await;
        assert_eq!(log(&user, TOPIC).await, written);
    });
}

/// Under a transaction: it does not come about, nothing of it is seen, and the next producer goes on.
#[test]
fn a_transactional_id_that_may_not_be_used_any_more_ends_its_producer() {
    with_user("transacting", async |user| {
        const NAME: &str = "rights-to-transact";
        create(&user.node.cluster, NewTopic::new(NAME, 1)).await;
        let right = user.right(AclOperation::Write, ResourceType::TransactionalId, NAME);
        let begun = async || {
            let producer = user.producer(|config| config.transactional_id = Some(NAME.to_owned()));
            wait_until("it may begin", async || producer.init_transactions().await.is_ok()).await;
            producer
        };
        user.grant(&right).await;
        let producer = begun().await;
        let mut written = Vec::new();
        let mut is_revoked = false;
        let error = loop {
            let value = written.len().to_string();
            if let Err(error) = transact(&producer, NAME, &value).await {
                break error;
            }
            written.push(value);
            if !is_revoked {
                user.revoke(&right).await;
                is_revoked = true;
            }
        };
        assert_eq!(error.code(), Some(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED), "{error}");
        assert!(!error.possibly_written() && error.to_string().contains(NAME), "{error}");
        user.grant(&right).await;
        let producer = begun().await;
        transact(&producer, NAME, "last").await.expect("it may again");
        written.push("last".to_owned());
        assert_eq!(log(&user, NAME).await, written);
    });
}

async fn transact(producer: &Producer, topic: &str, value: &str) -> Result<(), Error> {
    producer.begin_transaction().await?;
    // What fails shows at the commit.
    let record = producer.enqueue(Record::to(topic).value(value)).await;
    let ended = producer.commit_transaction().await;
    drop(record);
    ended
}

/// The topic's right and the group's are taken away in turn.
#[test]
fn a_consumer_that_may_not_read_any_more_says_so_and_goes_on_when_it_may() {
    with_user("reading", async |user| {
        const NAME: &str = "rights-to-read";
        create(&user.node.cluster, NewTopic::new(NAME, 1)).await;
        let rights =
            [ResourceType::Topic, ResourceType::Group].map(|kind| user.right(AclOperation::Read, kind, NAME));
        for right in &rights {
            user.grant(right).await;
        }
        let properties = user.properties(user.node.sasl_port, "SCRAM-SHA-256", "a password");
        let mut config = ConsumerConfig::from_properties(&properties).expect("a configuration");
        config.group_id = Some(NAME.to_owned());
        config.auto_offset_reset = OffsetReset::Earliest;
        config.group.heartbeat_interval = Duration::from_millis(200);
        let mut consumer = Consumer::new(config).expect("a consumer");
        consumer.subscribe([NAME]).expect("subscribe");
        let writer = crate::support::producer(&user.node.cluster, "rights");
        let mut read = Vec::new();
        for (number, (right, code)) in rights
            .iter()
            .zip([ErrorCode::TOPIC_AUTHORIZATION_FAILED, ErrorCode::GROUP_AUTHORIZATION_FAILED])
            .enumerate()
        {
            writer.send(Record::to(NAME).value("value")).await.expect("send");
            read_and_commit(&mut consumer, &mut read, number + 1).await;
            user.revoke(right).await;
            let error = loop {
                if let Err(error) = consumer.poll(Duration::from_millis(100)).await {
                    break error;
                }
            };
            assert!(error.code() == Some(code) && error.to_string().contains(NAME), "{error}");
            user.grant(right).await;
        }
        writer.send(Record::to(NAME).value("value")).await.expect("send");
        read_and_commit(&mut consumer, &mut read, 3).await;
        assert_eq!(read, [0, 1, 2]);
        let committed = consumer.committed([TopicPartition::new(NAME, 0)]).await.expect("committed");
        assert_eq!(committed[0].1.as_ref().map(|at| at.offset), Some(3));
        consumer.close().await.expect("close");
    });
}

/// Reads until there are so many; refusals are of rights that the broker does not know of yet.
async fn read_and_commit(consumer: &mut Consumer, read: &mut Vec<i64>, count: usize) {
    loop {
        match consumer.poll(Duration::from_millis(200)).await {
            Ok(batch) => read.extend(batch.iter().map(|record| record.offset)),
            Err(error) => assert!(error.to_string().contains("AUTHORIZATION_FAILED"), "{error}"),
        }
        if read.len() >= count && consumer.commit().await.is_ok() {
            return;
        }
    }
}

/// KIP-368: sessions end every other second. A password that was changed meanwhile ends the writing there and then,
/// with an error that says what to check; with the old one back the same producer goes on.
#[test]
fn a_password_that_is_changed_under_way_counts_from_the_next_session_on() {
    with_user("rotating", async |user| {
        const TOPIC: &str = "rights-by-password";
        create(&user.node.cluster, NewTopic::new(TOPIC, 1)).await;
        let set = async |password: &str| user.set_password(ScramMechanism::Sha512, password).await;
        set("old").await;
        let producer = |password: &str| {
            let properties = user.properties(user.node.renew_port, "SCRAM-SHA-512", password);
            let config = ProducerConfig::from_properties(&properties).expect("a configuration");
            Producer::new(config).expect("a producer")
        };
        let (old, mut written) = (producer("old"), Vec::new());
        wait_until("the password is known", async || {
            let value = written.len().to_string();
            old.send(Record::to(TOPIC).value(&value)).await.map(|_| written.push(value)).is_ok()
        })
        .await;
        set("new").await;
        let error = send_until_refused(&old, TOPIC, &mut written).await;
        assert!(error.kind() == ErrorKind::Authentication && !error.possibly_written(), "{error}");
        assert!(error.to_string().contains("check the user's name and password"), "{error}");
        let new = producer("new");
        let value = written.len().to_string();
        new.send(Record::to(TOPIC).value(&value)).await.expect("the new password");
        written.push(value);
        set("old").await;
        wait_until("the old password is good again", async || {
            let value = written.len().to_string();
            old.send(Record::to(TOPIC).value(&value)).await.map(|_| written.push(value)).is_ok()
        })
        .await;
        assert_eq!(log(&user, TOPIC).await, written);
    });
}
