//! Groups that move from the classic protocol to KIP-848 and back, member by member.

use super::*;

/// Its consumers are eager.
const EAGER: &str = "compared-eager";
/// Its consumers give up only what they have to.
const COOPERATIVE: &str = "compared-cooperative";
/// Its members have instance ids.
const NAMED: &str = "compared-named";
/// Its leader assigns what nobody else understands.
const MALFORMED: &str = "compared-malformed";
pub(super) const GROUPS: [&str; 4] = [EAGER, COOPERATIVE, NAMED, MALFORMED];

const RANGE: &[&str] = &["range"];

/// `partitions` of the topic, as both of the consumers' own messages have them.
fn of_topic(partitions: &[i32]) -> Vec<u8> {
    let name = TOPIC.as_bytes();
    let mut bytes = [&[0, 0, 0, 1, 0, name.len() as u8][..], name].concat();
    bytes.extend((partitions.len() as i32).to_be_bytes());
    bytes.extend(partitions.iter().flat_map(|partition| partition.to_be_bytes()));
    bytes
}

/// A subscription of version 1, which says what is owned.
fn owning(partitions: &[i32]) -> Bytes {
    let topic = TOPIC.as_bytes();
    let wanted = [&[0, 1, 0, 0, 0, 1, 0, topic.len() as u8][..], topic, &[0xff; 4]].concat();
    let owned = if partitions.is_empty() { vec![0; 4] } else { of_topic(partitions) };
    Bytes::from([wanted, owned].concat())
}

fn assignment(partitions: &[i32]) -> Bytes {
    Bytes::from([&[0, 0][..], &of_topic(partitions), &[0xff; 4]].concat())
}

/// The partitions of the only topic in an assignment.
fn assigned(bytes: &[u8]) -> Vec<i32> {
    let Some(rest) = bytes.get(2 + 4 + 2 + TOPIC.len() + 4..) else { return Vec::new() };
    let all = rest.chunks_exact(4).map(|four| i32::from_be_bytes(four.try_into().expect("four bytes")));
    all.filter(|partition| *partition >= 0).collect()
}

fn rejoining(group: &str, member: &str, owned: &[i32]) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(owning(owned));
    joining(group, member, None, RANGE).with_protocols(vec![protocol])
}

fn beating(group: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(id(group))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
}

fn first_beat(group: &str, member: &str) -> ConsumerGroupHeartbeatRequest {
    beating(group, member, 0)
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(Some(vec![name(TOPIC)]))
        .with_topic_partitions(Some(Vec::new()))
}

impl Observer {
    /// As `sync`, with this assignment for the member itself; what it is told, of which the number is noted.
    fn sync_to(&mut self, what: &str, group: &str, member: &str, generation: i32, own: &Bytes) -> Vec<i32> {
        let assignment =
            SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment(own.clone());
        let request = SyncGroupRequest::default()
            .with_group_id(id(group))
            .with_generation_id(generation)
            .with_member_id(text(member))
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(vec![assignment]);
        let it = self.call(5, request);
        let told = assigned(&it.assignment);
        self.note(what, (it.error_code, it.protocol_type, it.protocol_name, told.len(), it.assignment.len()));
        told
    }

    /// A classic group of one member, which has both partitions.
    fn begin(&mut self, group: &str) -> String {
        let member = self.join("without an id", 9, joining(group, "", None, RANGE));
        self.join("with the id", 9, joining(group, &member, None, RANGE));
        self.sync_to("all of it", group, &member, 1, &assignment(&[0, 1]));
        member
    }
}

pub(super) fn observe(it: &mut Observer) {
    malformed(it);
    eager(it);
    cooperative(it);
    named(it);
}

fn malformed(it: &mut Observer) {
    let member = it.join("without an id", 9, joining(MALFORMED, "", None, RANGE));
    it.join("with the id", 9, joining(MALFORMED, &member, None, RANGE));
    let whole = assignment(&[0, 1]);
    it.sync_to("one that is cut", MALFORMED, &member, 1, &whole.slice(..whole.len() - 9));
    it.beat("that is not taken over", first_beat(MALFORMED, "m"));
    it.heartbeat("in the classic group as before", MALFORMED, (&member, None), 1);
    it.join("its leader joins again", 9, joining(MALFORMED, &member, None, RANGE));
    let with_more = [&whole[..whole.len() - 4], &[0, 0, 0, 1, 9]].concat();
    it.sync_to("one of another assignor", MALFORMED, &member, 2, &Bytes::from(with_more));
    it.beat("nor is that", first_beat(MALFORMED, "m"));
    it.leave("of the classic group", MALFORMED, (&member, None));
}

fn eager(it: &mut Observer) {
    let a = it.begin(EAGER);
    it.beat("an epoch in a classic group", beating(EAGER, "m", 1));
    it.beat("a leave from a classic group", beating(EAGER, "m", -1));
    it.beat("the first of KIP-848", first_beat(EAGER, "m"));
    it.describe("two protocols", EAGER);
    it.heartbeat("to join again", EAGER, (&a, None), 1);
    it.commit_as("in its generation", 8, EAGER, (&a, None), 1);
    it.commit_as("in another generation", 9, EAGER, (&a, None), 2);
    it.sync_to("before it has joined again", EAGER, &a, 1, &Bytes::new());
    it.join("it has given up all", 9, joining(EAGER, &a, None, RANGE));
    it.heartbeat("nothing new", EAGER, (&a, None), 2);
    it.heartbeat("of the generation before", EAGER, (&a, None), 1);
    it.sync_to("of the generation before", EAGER, &a, 1, &Bytes::new());
    it.sync_to("of a stranger", EAGER, "stranger", 2, &Bytes::new());
    it.sync_to("its part", EAGER, &a, 2, &Bytes::new());
    let mine = it.beat("the other part", beating(EAGER, "m", 2).with_topic_partitions(Some(Vec::new())));
    it.describe("in agreement", EAGER);
    it.heartbeat("of the other protocol", EAGER, ("m", None), 2);
    it.sync_to("of the other protocol", EAGER, "m", 2, &Bytes::new());
    it.commit_as("an old version of the other protocol", 8, EAGER, ("m", None), 2);
    it.join("another protocol", 9, joining(EAGER, "", None, &["roundrobin"]));
    it.join("another type", 9, joining(EAGER, "", None, RANGE).with_protocol_type(text("connect")));
    it.join("no protocol", 9, joining(EAGER, "", None, &[]));

    let c = it.join("a third without an id", 9, joining(EAGER, "", None, &["roundrobin", "range"]));
    it.join("a third", 9, joining(EAGER, &c, None, RANGE));
    it.sync_to("nothing for it", EAGER, &c, 3, &Bytes::new());
    it.heartbeat("there are three", EAGER, (&a, None), 2);
    it.join("there are three", 9, joining(EAGER, &a, None, RANGE));
    it.sync_to("as before", EAGER, &a, 3, &Bytes::new());
    it.beat("there are three", beating(EAGER, "m", 2).with_topic_partitions(Some(mine)));
    it.leave("the third leaves", EAGER, (&c, None));
    it.heartbeat("nothing new before the other is heard of", EAGER, (&a, None), 3);
    it.beat("there are two", beating(EAGER, "m", 3));
    it.heartbeat("there are two", EAGER, (&a, None), 3);
    it.beat("the other leaves, too", beating(EAGER, "m", -1));
    it.describe("classic again", EAGER);
    it.heartbeat("classic again", EAGER, (&a, None), 3);
    it.heartbeat("classic again, by the group's epoch", EAGER, (&a, None), 4);
    it.join("classic again", 9, joining(EAGER, &a, None, RANGE));
    it.sync_to("classic again", EAGER, &a, 5, &assignment(&[0, 1]));
    it.heartbeat("the newest generation", EAGER, (&a, None), 5);
    it.describe("classic as at first", EAGER);

    it.beat("of KIP-848 again", first_beat(EAGER, "m"));
    it.leave("taken out by its id", EAGER, ("m", None));
    it.describe("classic for good", EAGER);
    it.leave("all are gone", EAGER, (&a, None));
}

fn cooperative(it: &mut Observer) {
    let a = it.begin(COOPERATIVE);
    it.beat("the first of KIP-848", first_beat(COOPERATIVE, "m"));
    it.heartbeat("to join again", COOPERATIVE, (&a, None), 1);
    it.join("it has all", 9, rejoining(COOPERATIVE, &a, &[0, 1]));
    it.describe("it is to give up", COOPERATIVE);
    let left = it.sync_to("what it keeps", COOPERATIVE, &a, 1, &Bytes::new());
    it.heartbeat("to join again and again", COOPERATIVE, (&a, None), 1);
    it.join("it has what it keeps", 9, rejoining(COOPERATIVE, &a, &left));
    it.sync_to("what it has", COOPERATIVE, &a, 2, &Bytes::new());
    it.heartbeat("nothing new", COOPERATIVE, (&a, None), 2);
    let other = beating(COOPERATIVE, "m", 2).with_topic_partitions(Some(Vec::new()));
    let mine = it.beat("what was given up", other);

    // The one of KIP-848 is to give up now, and the classic one waits for that.
    let fresh = it.join("a third without an id", 9, rejoining(COOPERATIVE, "", &[]));
    it.leave("the first leaves", COOPERATIVE, (&a, None));
    it.beat("it gets all", beating(COOPERATIVE, "m", 2).with_topic_partitions(Some(mine)));
    it.join("a third", 9, rejoining(COOPERATIVE, &fresh, &[]));
    it.sync_to("nothing is free", COOPERATIVE, &fresh, 4, &Bytes::new());
    it.heartbeat("nothing is free", COOPERATIVE, (&fresh, None), 4);
    let left = it.beat("it is to give up", beating(COOPERATIVE, "m", 3));
    it.beat("it has given up", beating(COOPERATIVE, "m", 3).with_topic_partitions(Some(left)));
    it.heartbeat("something is free", COOPERATIVE, (&fresh, None), 4);
    it.join("it gets it", 9, rejoining(COOPERATIVE, &fresh, &[]));
    it.sync_to("it has it", COOPERATIVE, &fresh, 4, &Bytes::new());
    it.describe("in agreement", COOPERATIVE);
    it.leave("the classic one leaves", COOPERATIVE, (&fresh, None));
    it.beat("the last leaves", beating(COOPERATIVE, "m", -1));
    it.describe("empty", COOPERATIVE);
    it.delete_group("empty", COOPERATIVE);
}

fn named(it: &mut Observer) {
    let classic = |member: &str| joining(NAMED, member, Some("one"), RANGE);
    let modern = |member: &str| first_beat(NAMED, member).with_instance_id(Some(text("one")));
    let a = it.join("a static member", 9, classic(""));
    it.sync_to("all of it", NAMED, &a, 1, &assignment(&[0, 1]));
    it.beat("it comes back by KIP-848", modern("m"));
    it.heartbeat("of the one before", NAMED, (&a, Some("one")), 1);
    it.join("of the one before", 9, classic(&a));
    it.describe("it is of KIP-848", NAMED);
    it.beat("another comes by KIP-848", modern("n"));
    let b = it.join("it comes back by the classic protocol", 9, classic(""));
    it.describe("it is classic", NAMED);
    it.sync_to("as before", NAMED, &b, 1, &Bytes::new());
    it.heartbeat("as before", NAMED, (&b, Some("one")), 1);
    it.beat("and by KIP-848 again", modern("o"));
    let c = it.join("a second one", 9, joining(NAMED, "", Some("two"), RANGE));
    it.leave("of an unknown instance", NAMED, ("", Some("three")));
    it.leave("of the wrong id", NAMED, ("stranger", Some("two")));
    it.heartbeat("of the wrong id", NAMED, ("stranger", Some("two")), 2);
    it.leave("of the other protocol by instance", NAMED, ("", Some("one")));
    it.describe("classic again", NAMED);
    it.leave("by instance", NAMED, (&c, Some("two")));
    it.describe("empty", NAMED);
}
