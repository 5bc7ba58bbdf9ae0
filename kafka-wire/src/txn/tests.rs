//! Transactions driven by hand: each call is looked at and answered, time is a value.

use std::sync::Mutex;

use bytes::BytesMut;

use super::*;
use crate::cluster::CoordinatorKind;
use crate::engine::Target;
use crate::protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use crate::protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use crate::protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    ApiKey, Encodable, EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse,
    ProducerId, TopicName, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use crate::protocol::request::{FrameBuilder, Response};

type Answers<T> = Arc<Mutex<Vec<Result<T>>>>;

fn asked<T: Send + 'static>() -> (Reply<T>, Answers<T>) {
    let answers: Answers<T> = Arc::default();
    let inbox = Arc::clone(&answers);
    (Reply::new(move |answer| inbox.lock().unwrap().push(answer)), answers)
}

fn only<T: Clone>(answers: &Answers<T>) -> Option<Result<T>> {
    let answers = answers.lock().unwrap();
    assert!(answers.len() <= 1, "answered more than once");
    answers.first().cloned()
}

/// The machine and its clock.
struct Rig {
    now: Instant,
    machine: Transactions,
}

/// A call that was made: to whom, and its body in the newest version allowed.
struct Made {
    target: Target,
    api: ApiKey,
    version: i16,
    body: BytesMut,
}

impl Made {
    fn decode<M: crate::protocol::messages::Decodable>(&self) -> M {
        M::decode(&mut self.body.clone().freeze(), self.version).unwrap()
    }
}

impl Rig {
    fn new() -> Self {
        let machine = Transactions::new(TransactionsConfig {
            transactional_id: Some("job".into()),
            timeout: Duration::from_secs(60),
            patience: Duration::from_secs(60),
            retry_backoff: Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) },
            seed: 1,
        });
        #[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
        let now = Instant::now();
        Self { now, machine }
    }

    /// A machine that has its producer id, 5/0.
    fn ready() -> Self {
        let mut rig = Self::new();
        let (reply, answers) = asked();
        rig.machine.init(rig.now, reply);
        rig.init_as(5, 0);
        assert_eq!(only(&answers).unwrap().unwrap(), ProducerIdentity { id: 5, epoch: 0 });
        rig
    }

    fn begun(protocol: Protocol) -> Self {
        let mut rig = Self::ready();
        rig.machine.begin(rig.now, protocol).unwrap();
        rig
    }

    /// The next call, whose time may have to come first.
    fn call(&mut self) -> Made {
        self.try_call(true).expect("a call")
    }

    fn try_call(&mut self, is_drained: bool) -> Option<Made> {
        if let Some(at) = self.machine.poll_timeout() {
            self.now = self.now.max(at);
        }
        let (target, request) = self.machine.poll_call(self.now, is_drained)?;
        let version = *request.versions().end();
        let mut frame = FrameBuilder::new();
        request.encode(version, &mut frame).unwrap();
        let body = frame.finish().iter().flat_map(|chunk| chunk.to_vec()).collect();
        Some(Made { target, api: request.api(), version, body })
    }

    fn answer(&mut self, made: &Made, body: impl Encodable) -> Option<(CoordinatorKind, Arc<str>)> {
        let mut bytes = BytesMut::new();
        body.encode(&mut bytes, made.version).unwrap();
        let response = Response { api: made.api, version: made.version, body: bytes.freeze() };
        self.machine.handle_response(self.now, Ok(response))
    }

    /// The answer is lost; the request was executed or not.
    fn lose(&mut self) {
        let lost = Error::new(ErrorKind::Network, "the connection ended").with_possibly_written();
        self.machine.handle_response(self.now, Err(lost));
    }

    fn init_as(&mut self, id: i64, epoch: i16) -> InitProducerIdRequest {
        let made = self.call();
        assert_eq!(made.api, ApiKey::InitProducerId);
        let identity = InitProducerIdResponse::default().with_producer_id(ProducerId(id));
        self.answer(&made, identity.with_producer_epoch(epoch));
        made.decode()
    }

    fn fail_init(&mut self, code: ErrorCode) -> Option<(CoordinatorKind, Arc<str>)> {
        let made = self.call();
        self.answer(&made, InitProducerIdResponse::default().with_error_code(code.code()))
    }

    fn end_with(&mut self, code: i16, id: i64, epoch: i16) -> (i16, EndTxnRequest) {
        let made = self.call();
        assert_eq!(made.api, ApiKey::EndTxn);
        let answer = EndTxnResponse::default().with_error_code(code);
        let answer = if made.version >= 5 {
            answer.with_producer_id(ProducerId(id)).with_producer_epoch(epoch)
        } else {
            answer
        };
        self.answer(&made, answer);
        (made.version, made.decode())
    }

    fn add_partition(&mut self, code: i16) {
        let made = self.call();
        assert_eq!(made.api, ApiKey::AddPartitionsToTxn);
        let request: AddPartitionsToTxnRequest = made.decode();
        assert_eq!(request.v3_and_below_topics.len(), 1);
        self.answer(&made, partition_added(code));
    }

    /// A batch is put on the wire.
    fn write(&mut self) {
        assert!(self.machine.admit(&output()));
        self.machine.wrote();
    }

    fn commit(&mut self) -> Answers<()> {
        let (reply, answers) = asked();
        self.machine.end(true, reply);
        answers
    }

    fn abort(&mut self) -> Answers<()> {
        let (reply, answers) = asked();
        self.machine.end(false, reply);
        answers
    }
}

fn partition_added(code: i16) -> AddPartitionsToTxnResponse {
    let partition = AddPartitionsToTxnPartitionResult::default().with_partition_error_code(code);
    let topic = AddPartitionsToTxnTopicResult::default().with_results_by_partition(vec![partition]);
    let topic = topic.with_name(TopicName("out".into()));
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(vec![topic])
}

fn output() -> TopicPartition {
    TopicPartition::new("out", 0)
}

#[test]
fn init_waits_out_a_pending_commit_and_finds_a_coordinator_that_moved() {
    let mut rig = Rig::new();
    let (reply, answers) = asked();
    rig.machine.init(rig.now, reply);
    let moved = rig.fail_init(ErrorCode::NOT_COORDINATOR);
    assert_eq!(moved, Some((CoordinatorKind::Transaction, "job".into())));
    rig.fail_init(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    for _ in 0..30 {
        assert_eq!(rig.fail_init(ErrorCode::CONCURRENT_TRANSACTIONS), None);
    }
    // Complaint 9 of the facts: a lost answer must not make a producer fence itself.
    let made = rig.call();
    assert_eq!(made.target, Target::Coordinator { kind: CoordinatorKind::Transaction, key: "job".into() });
    rig.lose();
    let request = rig.init_as(5, 3);
    assert_eq!((request.producer_id.0, request.producer_epoch), (-1, -1), "it claims no epoch of its own");
    assert_eq!(only(&answers).unwrap().unwrap(), ProducerIdentity { id: 5, epoch: 3 });
}

#[test]
fn init_gives_up_after_max_block_and_may_be_tried_again() {
    let mut rig = Rig::new();
    let (reply, answers) = asked();
    rig.machine.init(rig.now, reply);
    while only(&answers).is_none() {
        rig.fail_init(ErrorCode::CONCURRENT_TRANSACTIONS);
    }
    let error = only(&answers).unwrap().unwrap_err();
    assert!(
        error.kind() == ErrorKind::Timeout && error.to_string().contains("max.block.ms=60000"),
        "{error}"
    );
    assert!(error.to_string().contains("CONCURRENT_TRANSACTIONS"), "{error}");
    let (reply, again) = asked();
    rig.machine.init(rig.now, reply);
    rig.init_as(5, 1);
    assert!(only(&again).unwrap().is_ok());
}

#[test]
fn protocol_2_adds_partitions_by_writing_and_goes_on_with_the_pair_that_end_answers() {
    let mut rig = Rig::begun(Protocol::V2);
    rig.write();
    let committed = rig.commit();
    assert!(rig.try_call(false).is_none(), "not before every batch is acknowledged");
    let (version, request) = rig.end_with(0, 5, 1);
    assert_eq!((version, request.producer_epoch, request.committed), (5, 0, true));
    assert!(only(&committed).unwrap().is_ok());
    assert_eq!(rig.machine.identity(), Some(ProducerIdentity { id: 5, epoch: 1 }));
    // Epochs run out within an hour: then the answer is another producer id.
    rig.machine.begin(rig.now, Protocol::V2).unwrap();
    rig.write();
    let committed = rig.commit();
    rig.end_with(0, 6, 0);
    assert!(only(&committed).unwrap().is_ok());
    assert_eq!(rig.machine.identity(), Some(ProducerIdentity { id: 6, epoch: 0 }));
}

#[test]
fn protocol_1_tells_the_coordinator_of_each_partition_once_a_transaction() {
    let mut rig = Rig::begun(Protocol::V1);
    for epoch in 0..2 {
        assert!(!rig.machine.admit(&output()), "the coordinator does not know yet");
        assert!(!rig.machine.admit(&output()));
        rig.add_partition(ErrorCode::CONCURRENT_TRANSACTIONS.code());
        rig.add_partition(0);
        assert!(rig.machine.admit(&output()) && rig.try_call(false).is_none(), "round {epoch}");
        let committed = rig.commit();
        let (version, _) = rig.end_with(0, -1, -1);
        assert_eq!(version, 4, "a newer version would mean protocol 2 to the broker");
        assert!(only(&committed).unwrap().is_ok());
        rig.machine.begin(rig.now, Protocol::V1).unwrap();
    }
    assert_eq!(rig.machine.identity(), Some(ProducerIdentity { id: 5, epoch: 0 }), "the epoch stays");
}

#[test]
fn a_transaction_that_wrote_nothing_is_not_ended() {
    for protocol in [Protocol::V1, Protocol::V2] {
        let mut rig = Rig::begun(protocol);
        let committed = rig.commit();
        assert!(rig.try_call(true).is_none());
        assert!(only(&committed).unwrap().is_ok());
    }
}

#[test]
fn a_lost_answer_to_end_is_asked_again_and_the_outcome_known() {
    let mut rig = Rig::begun(Protocol::V2);
    rig.write();
    let committed = rig.commit();
    rig.call();
    rig.lose();
    assert!(only(&committed).is_none());
    rig.end_with(ErrorCode::CONCURRENT_TRANSACTIONS.code(), -1, -1);
    rig.end_with(0, 5, 1);
    assert!(only(&committed).unwrap().is_ok());
}

/// KAFKA-17754: under protocol 1 the lost EndTxn may still arrive, and end the next transaction.
#[test]
fn protocol_1_raises_the_epoch_after_a_batch_of_unknown_fate() {
    let mut rig = Rig::begun(Protocol::V1);
    assert!(!rig.machine.admit(&output()));
    rig.add_partition(0);
    rig.machine.doom(rig.now, Error::new(ErrorKind::Timeout, "produce").with_possibly_written());
    let refused = rig.commit();
    assert!(only(&refused).unwrap().unwrap_err().is_abortable());
    let aborted = rig.abort();
    let (_, request) = rig.end_with(0, -1, -1);
    assert!(!request.committed);
    assert!(only(&aborted).unwrap().is_ok());
    rig.machine.begin(rig.now, Protocol::V1).unwrap();
    assert!(!rig.machine.admit(&output()) && rig.machine.identity().is_none(), "not with the old epoch");
    let request = rig.init_as(5, 1);
    assert_eq!(
        (request.producer_id.0, request.producer_epoch),
        (5, 0),
        "its own epoch, so a fenced one learns it"
    );
    assert_eq!(rig.machine.identity(), Some(ProducerIdentity { id: 5, epoch: 1 }));
}

/// As above, when the second attempt was answered: the first one is still out there.
#[test]
fn protocol_1_raises_the_epoch_after_an_end_that_had_to_be_asked_twice() {
    let mut rig = Rig::begun(Protocol::V1);
    assert!(!rig.machine.admit(&output()));
    rig.add_partition(0);
    let committed = rig.commit();
    rig.call();
    rig.lose();
    rig.end_with(0, -1, -1);
    assert!(only(&committed).unwrap().is_ok());
    rig.machine.begin(rig.now, Protocol::V1).unwrap();
    assert!(!rig.machine.admit(&output()) && rig.machine.identity().is_none(), "not with the old epoch");
    rig.init_as(5, 1);
    assert_eq!(rig.machine.identity(), Some(ProducerIdentity { id: 5, epoch: 1 }));
    assert!(!rig.machine.admit(&output()), "the partition is to be added anew");
    rig.add_partition(0);
    rig.commit();
    rig.end_with(0, -1, -1);
    rig.machine.begin(rig.now, Protocol::V1).unwrap();
    assert!(rig.machine.identity().is_some(), "there is no doubt any more");
}

#[test]
fn what_is_on_the_wire_may_open_the_transaction_so_an_abort_waits_for_it_and_ends_it() {
    let mut rig = Rig::begun(Protocol::V1);
    assert!(!rig.machine.admit(&output()));
    let made = rig.call();
    assert_eq!(made.api, ApiKey::AddPartitionsToTxn);
    let aborted = rig.abort();
    assert!(rig.try_call(true).is_none(), "the question is still on the wire");
    rig.answer(&made, partition_added(0));
    assert!(!rig.end_with(0, 7, 0).1.committed);
    only(&aborted).unwrap().unwrap();
    rig.machine.begin(rig.now, Protocol::V1).unwrap();
    assert!(rig.try_call(true).is_none(), "nothing is in doubt, so the epoch need not be raised");
}

#[test]
fn an_abort_of_what_never_reached_the_coordinator_succeeds_and_raises_the_epoch() {
    let mut rig = Rig::begun(Protocol::V1);
    assert!(!rig.machine.admit(&output()));
    assert_eq!(rig.call().api, ApiKey::AddPartitionsToTxn);
    let aborted = rig.abort();
    rig.lose();
    rig.end_with(ErrorCode::INVALID_TXN_STATE.code(), 7, 0);
    only(&aborted).unwrap().unwrap();
    rig.machine.begin(rig.now, Protocol::V1).unwrap();
    assert_eq!(rig.init_as(7, 1).producer_epoch, 0);
}

#[test]
fn protocol_2_needs_no_new_id_after_an_abort() {
    let mut rig = Rig::begun(Protocol::V2);
    rig.write();
    rig.machine.doom(rig.now, Error::new(ErrorKind::Timeout, "produce").with_possibly_written());
    let aborted = rig.abort();
    rig.end_with(0, 5, 1);
    assert!(only(&aborted).unwrap().is_ok());
    rig.machine.begin(rig.now, Protocol::V2).unwrap();
    assert!(rig.try_call(false).is_none());
    assert_eq!(rig.machine.identity(), Some(ProducerIdentity { id: 5, epoch: 1 }));
}

#[test]
fn an_abort_that_overtakes_the_last_commits_markers_is_asked_again() {
    let mut rig = Rig::begun(Protocol::V2);
    rig.write();
    let aborted = rig.abort();
    rig.end_with(ErrorCode::INVALID_TXN_STATE.code(), -1, -1);
    rig.end_with(0, 5, 1);
    assert!(only(&aborted).unwrap().is_ok());
    assert_eq!(rig.machine.identity(), Some(ProducerIdentity { id: 5, epoch: 1 }));
}

#[test]
fn an_end_without_any_answer_is_indefinite_and_the_producer_stops() {
    let mut rig = Rig::begun(Protocol::V2);
    rig.write();
    let committed = rig.commit();
    while only(&committed).is_none() {
        rig.call();
        rig.lose();
    }
    let error = only(&committed).unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && error.possibly_written(), "{error:?}");
    assert!(rig.machine.begin(rig.now, Protocol::V2).is_err(), "nobody may go on from here");
    assert!(rig.try_call(true).is_none());
}

#[test]
fn fencing_is_final_and_says_so() {
    for code in [ErrorCode::PRODUCER_FENCED, ErrorCode::INVALID_PRODUCER_EPOCH] {
        let mut rig = Rig::begun(Protocol::V2);
        rig.write();
        let committed = rig.commit();
        rig.end_with(code.code(), -1, -1);
        let error = only(&committed).unwrap().unwrap_err();
        assert!(
            error.kind() == ErrorKind::Fenced && error.is_fatal() && !error.possibly_written(),
            "{error:?}"
        );
        let (reply, answers) = asked();
        rig.machine.init(rig.now, reply);
        assert_eq!(only(&answers).unwrap().unwrap_err().kind(), ErrorKind::Fenced);
    }
}

#[test]
fn offsets_go_through_both_coordinators_under_protocol_1_and_one_under_2() {
    let offset = CommittedOffset { offset: 7, leader_epoch: None, metadata: "e=3".into() };
    for protocol in [Protocol::V1, Protocol::V2] {
        let mut rig = Rig::begun(protocol);
        let (reply, answers) = asked();
        let offsets = vec![(TopicPartition::new("in", 1), offset.clone())];
        rig.machine.send_offsets(GroupMetadata::without_member("g"), offsets, reply);
        if protocol == Protocol::V1 {
            let made = rig.call();
            assert_eq!(made.decode::<AddOffsetsToTxnRequest>().group_id.as_str(), "g");
            rig.answer(&made, AddOffsetsToTxnResponse::default());
        }
        let made = rig.call();
        assert_eq!(made.target, Target::Coordinator { kind: CoordinatorKind::Group, key: "g".into() });
        assert_eq!(made.version, if protocol == Protocol::V1 { 4 } else { 5 });
        let request: TxnOffsetCommitRequest = made.decode();
        assert_eq!((request.generation_id, request.topics[0].partitions[0].committed_offset), (-1, 7));
        let moved = rig.answer(&made, offsets_answer(ErrorCode::NOT_COORDINATOR.code()));
        assert_eq!(moved, Some((CoordinatorKind::Group, "g".into())));
        let made = rig.call();
        rig.answer(&made, offsets_answer(0));
        assert!(only(&answers).unwrap().is_ok());
        let committed = rig.commit();
        rig.end_with(0, 5, 1);
        assert!(only(&committed).unwrap().is_ok());
    }
}

/// Else the transaction could be committed without it.
#[test]
fn an_answer_that_leaves_a_partition_out_is_as_good_as_none() {
    let mut rig = Rig::begun(Protocol::V1);
    assert!(!rig.machine.admit(&output()));
    let made = rig.call();
    rig.answer(&made, AddPartitionsToTxnResponse::default());
    assert!(!rig.machine.admit(&output()));
    rig.add_partition(0);
    assert!(rig.machine.admit(&output()));
    let (reply, answers) = asked();
    let offset = CommittedOffset { offset: 7, leader_epoch: None, metadata: String::new() };
    let offsets = vec![(TopicPartition::new("in", 1), offset)];
    rig.machine.send_offsets(GroupMetadata::without_member("g"), offsets, reply);
    let made = rig.call();
    rig.answer(&made, AddOffsetsToTxnResponse::default());
    let made = rig.call();
    rig.answer(&made, TxnOffsetCommitResponse::default());
    assert!(only(&answers).is_none());
    let made = rig.call();
    assert_eq!(made.api, ApiKey::TxnOffsetCommit);
    rig.answer(&made, offsets_answer(0));
    assert!(only(&answers).unwrap().is_ok());
}

#[test]
fn refused_offsets_make_the_transaction_abortable() {
    let mut rig = Rig::begun(Protocol::V2);
    let (reply, answers) = asked();
    rig.machine.send_offsets(GroupMetadata::without_member("g"), Vec::new(), reply);
    let made = rig.call();
    rig.answer(&made, offsets_answer(ErrorCode::ILLEGAL_GENERATION.code()));
    assert!(only(&answers).unwrap().unwrap_err().is_abortable());
    assert!(rig.machine.check_open().unwrap_err().is_abortable());
    let aborted = rig.abort();
    rig.end_with(0, 5, 1);
    assert!(only(&aborted).unwrap().is_ok());
}

fn offsets_answer(code: i16) -> TxnOffsetCommitResponse {
    let partition = TxnOffsetCommitResponsePartition::default().with_partition_index(1).with_error_code(code);
    let topic = TxnOffsetCommitResponseTopic::default().with_partitions(vec![partition]);
    let topic = topic.with_name(TopicName("in".into()));
    TxnOffsetCommitResponse::default().with_topics(vec![topic])
}

#[test]
fn calls_out_of_turn_are_told_what_is_wrong() {
    let mut rig = Rig::new();
    assert_eq!(rig.machine.begin(rig.now, Protocol::V2).unwrap_err().kind(), ErrorKind::Usage);
    let mut rig = Rig::ready();
    assert_eq!(only(&rig.commit()).unwrap().unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(rig.machine.check_open().unwrap_err().kind(), ErrorKind::Usage);
    rig.machine.begin(rig.now, Protocol::V2).unwrap();
    assert_eq!(rig.machine.begin(rig.now, Protocol::V2).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn breaking_down_answers_whoever_waits() {
    let mut rig = Rig::begun(Protocol::V2);
    rig.write();
    let committed = rig.commit();
    rig.machine.break_down(Error::new(ErrorKind::Closed, "closed"));
    assert_eq!(only(&committed).unwrap().unwrap_err().kind(), ErrorKind::Closed);
}

fn outdated() -> Error {
    Error::new(ErrorKind::Fenced, "produce")
}

/// Complaint 10 of the facts: elsewhere the producer is of no use after a transaction that took too long.
#[test]
fn a_transaction_that_the_coordinator_ended_for_its_age_is_to_be_aborted_and_the_next_begins() {
    for protocol in [Protocol::V1, Protocol::V2] {
        let mut rig = Rig::begun(protocol);
        if protocol == Protocol::V1 {
            rig.machine.admit(&output());
            rig.add_partition(0);
        }
        rig.write();
        rig.machine.written();
        rig.machine.doom(rig.now, outdated());
        assert!(rig.machine.check_open().unwrap_err().is_abortable() && rig.machine.identity().is_none());
        rig.fail_init(ErrorCode::CONCURRENT_TRANSACTIONS);
        let asked = rig.init_as(5, 2);
        assert_eq!((asked.producer_id.0, asked.producer_epoch), (5, 1), "the epoch that the abort raised");
        // The rest of what was on the wire says the same.
        rig.machine.doom(rig.now, outdated());
        let refused = rig.machine.check_open().unwrap_err();
        assert!(refused.is_abortable() && refused.kind() == ErrorKind::Timeout, "{refused:?}");
        assert!(refused.to_string().contains("transaction.timeout.ms=60000"), "{refused}");
        let aborted = rig.abort();
        assert!(rig.try_call(true).is_none(), "there is nothing to end");
        assert!(only(&aborted).unwrap().is_ok());
        rig.machine.begin(rig.now, protocol).unwrap();
        assert_eq!(rig.machine.identity(), Some(ProducerIdentity { id: 5, epoch: 2 }));
    }
}

#[test]
fn a_commit_that_comes_too_late_is_refused_as_abortable() {
    let mut rig = Rig::begun(Protocol::V2);
    rig.write();
    rig.machine.written();
    let committed = rig.commit();
    rig.end_with(ErrorCode::PRODUCER_FENCED.code(), -1, -1);
    assert!(only(&committed).is_none() && rig.machine.is_ending(), "it is being found out");
    rig.init_as(5, 3);
    let error = only(&committed).unwrap().unwrap_err();
    assert!(error.is_abortable() && !error.possibly_written() && !error.is_fatal(), "{error:?}");
    assert!(rig.machine.is_doomed());
}

#[test]
fn an_abort_that_is_asked_for_meanwhile_is_answered_when_it_is_known() {
    let mut rig = Rig::begun(Protocol::V2);
    rig.write();
    rig.machine.written();
    rig.machine.doom(rig.now, outdated());
    let aborted = rig.abort();
    rig.init_as(5, 2);
    assert!(rig.try_call(false).is_none() && only(&aborted).is_none(), "something is on the wire");
    assert!(rig.try_call(true).is_none());
    assert!(only(&aborted).unwrap().is_ok());
}

#[test]
fn when_the_coordinator_has_given_the_epoch_to_another_it_is_fencing() {
    let mut rig = Rig::begun(Protocol::V1);
    rig.machine.admit(&output());
    rig.add_partition(0);
    let committed = rig.commit();
    rig.end_with(ErrorCode::PRODUCER_FENCED.code(), -1, -1);
    rig.fail_init(ErrorCode::PRODUCER_FENCED);
    let error = only(&committed).unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::Fenced && error.is_fatal(), "{error:?}");
    assert!(rig.machine.broken().is_some());
}

/// They know no way to ask without taking the epoch from whoever has it.
#[test]
fn brokers_before_2_5_are_not_asked_who_it_was() {
    let mut rig = Rig::begun(Protocol::V1);
    rig.machine.admit(&output());
    rig.add_partition(0);
    rig.machine.doom(rig.now, outdated());
    let aborted = rig.abort();
    let (_, request) = rig.machine.poll_call(rig.now, true).unwrap();
    assert_eq!(request.versions(), 3..=5);
    rig.machine.handle_response(rig.now, Err(Error::new(ErrorKind::Unsupported, "no version in common")));
    assert_eq!(only(&aborted).unwrap().unwrap_err().kind(), ErrorKind::Fenced);
}

#[test]
fn a_commit_in_doubt_that_is_refused_then_may_have_been_done() {
    let mut rig = Rig::begun(Protocol::V2);
    rig.write();
    rig.machine.written();
    let committed = rig.commit();
    rig.call();
    rig.lose();
    rig.end_with(ErrorCode::PRODUCER_FENCED.code(), -1, -1);
    let error = only(&committed).unwrap().unwrap_err();
    assert!(error.possibly_written() && error.is_fatal(), "{error:?}");
}

#[test]
fn a_producer_that_was_forgotten_gets_another_id() {
    let mut rig = Rig::begun(Protocol::V1);
    rig.machine.admit(&output());
    rig.add_partition(ErrorCode::INVALID_PRODUCER_ID_MAPPING.code());
    let asked = rig.init_as(9, 0);
    assert_eq!((asked.producer_id.0, asked.producer_epoch), (5, 0), "itself, if it is known after all");
    let error = rig.machine.check_open().unwrap_err();
    assert!(error.is_abortable() && error.to_string().contains("transactional.id.expiration.ms"), "{error}");
    let aborted = rig.abort();
    assert!(rig.try_call(true).is_none() && only(&aborted).unwrap().is_ok());
    rig.machine.begin(rig.now, Protocol::V1).unwrap();
    assert_eq!(rig.machine.identity(), Some(ProducerIdentity { id: 9, epoch: 0 }));
}

/// As Java: the same sequence numbers would be refused in every transaction to come.
#[test]
fn protocol_1_raises_the_epoch_after_a_batch_out_of_order() {
    let mut rig = Rig::begun(Protocol::V1);
    rig.machine.admit(&output());
    rig.add_partition(0);
    rig.machine.doom(rig.now, Error::broker(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, "produce"));
    let aborted = rig.abort();
    rig.end_with(0, -1, -1);
    assert!(only(&aborted).unwrap().is_ok());
    rig.machine.begin(rig.now, Protocol::V1).unwrap();
    assert_eq!(rig.init_as(5, 1).producer_epoch, 0);
}

/// They raise the epoch for anybody: a producer that was replaced without knowing it would fence its successor.
#[test]
fn brokers_before_2_5_are_not_asked_to_raise_the_epoch() {
    let mut rig = Rig::begun(Protocol::V1);
    rig.machine.admit(&output());
    rig.add_partition(0);
    let committed = rig.commit();
    rig.call();
    rig.lose();
    rig.end_with(0, -1, -1);
    assert!(only(&committed).unwrap().is_ok());
    rig.machine.begin(rig.now, Protocol::V1).unwrap();
    let (_, request) = rig.machine.poll_call(rig.now, true).unwrap();
    assert_eq!((request.api(), request.versions()), (ApiKey::InitProducerId, 3..=5));
    rig.machine.handle_response(rig.now, Err(Error::new(ErrorKind::Unsupported, "no version in common")));
    let error = rig.machine.check_open().unwrap_err();
    assert!(error.kind() == ErrorKind::Closed && error.is_fatal(), "{error:?}");
    assert!(error.hint().unwrap().contains("another producer"), "{error}");
}
