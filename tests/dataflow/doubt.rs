//! Answers that are lost, refusals, fencing: what is committed is right all the same.

use dataflow::ErrorKind;
use dataflow::testing::embedded::{Action, ApiKey, ErrorCode, Rule, TransactionVersion};
use futures_executor::block_on;
use tidewater_tests::patience::comes_about;

use crate::rig::{Rig, Running, copy};

const PROTOCOLS: [TransactionVersion; 2] = [TransactionVersion::V0, TransactionVersion::V2];

/// Runs a job over three pieces of input while a rule breaks something, and checks what it commits.
fn survives(version: TransactionVersion, rule: Rule) {
    let rig = Rig::with(version);
    let broken = rig.broker.add_rule(rule.clone());
    let job = Running::start(copy(), rig.settings());
    for piece in 0..3 {
        rig.write(piece * 20..(piece + 1) * 20);
        job.until_written(20);
    }
    job.stop();
    let hits = rig.broker.control(|cluster, _| cluster.rule_hits(broken));
    assert!(hits > 0, "{rule:?} has broken nothing, and so proved nothing");
    assert_eq!(rig.committed(), (0..60).collect::<Vec<_>>(), "{version:?} {rule:?}");
}

#[test]
fn d5_a_lost_answer_loses_and_doubles_nothing() {
    for version in PROTOCOLS {
        let mut apis = vec![ApiKey::InitProducerId, ApiKey::Produce, ApiKey::TxnOffsetCommit, ApiKey::EndTxn];
        if version == TransactionVersion::V0 {
            apis.extend([ApiKey::AddPartitionsToTxn, ApiKey::AddOffsetsToTxn]);
        }
        for api in apis {
            survives(version, Rule::new(Action::ApplyThenDisconnect).api(api).times(1));
            survives(version, Rule::new(Action::ApplyThenDisconnect).api(api).skip(1).times(2));
        }
    }
}

#[test]
fn d5_an_end_that_is_refused_restarts_the_job_from_its_manifest() {
    for version in PROTOCOLS {
        for code in [
            ErrorCode::INVALID_TXN_STATE,
            ErrorCode::INVALID_PRODUCER_ID_MAPPING,
            ErrorCode::UNKNOWN_SERVER_ERROR,
        ] {
            survives(version, Rule::new(Action::Error(code)).api(ApiKey::EndTxn).skip(1).times(1));
        }
    }
}

#[test]
fn d5_output_that_is_refused_restarts_the_job_from_its_manifest() {
    for version in PROTOCOLS {
        for code in [ErrorCode::UNKNOWN_SERVER_ERROR, ErrorCode::INVALID_PRODUCER_ID_MAPPING] {
            let rule = Rule::new(Action::Error(code)).api(ApiKey::Produce).topic("out").times(1);
            survives(version, rule);
        }
    }
}

#[test]
fn d5_of_two_instances_one_takes_over_and_the_other_names_it() {
    for version in PROTOCOLS {
        let rig = Rig::with(version);
        rig.write(0..30);
        let first = Running::start(copy(), rig.settings());
        first.until_written(30);
        let second = Running::start(copy(), rig.settings());
        // Who has nothing to commit does not learn that it was fenced. Who is fenced comes back once, unless the other
        // has committed by then: so on a slow machine the first may win again.
        let mut written = 30;
        let is_ended = comes_about(|| {
            rig.write(written..written + 1);
            written += 1;
            first.handle.is_ended() || second.handle.is_ended()
        });
        assert!(is_ended, "both instances go on");
        let (loser, winner) = if first.handle.is_ended() { (first, second) } else { (second, first) };
        let error = loser.handle.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        let text = error.to_string();
        assert!(text.contains("instance ") && text.contains("has taken it over"), "{text}");
        assert!(comes_about(|| rig.committed().len() >= written as usize), "the other one does not go on");
        winner.stop();
        assert_eq!(rig.committed(), (0..written).collect::<Vec<_>>());
    }
}

#[test]
fn d5_fenced_from_outside_the_job_goes_on_once_and_says_so_the_second_time() {
    let rig = Rig::new();
    let job = Running::start(copy(), rig.settings());
    rig.write(0..10);
    job.until_written(10);
    hijack(&rig);
    rig.write(10..20);
    job.until_written(10);
    hijack(&rig);
    rig.write(20..30);
    let error = job.handle.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert!(
        error.to_string().contains("another program uses the transactional id \"tidewater-job\""),
        "{error}"
    );
    assert_eq!(rig.committed(), (0..20).collect::<Vec<_>>());
}

/// Another program takes the job's transactional id.
fn hijack(rig: &Rig) {
    let mut config = kafka_wire::config::ProducerConfig::default();
    config.client = kafka_wire::config::ClientConfig::bootstrap(&rig.broker.bootstrap()).unwrap();
    config.transactional_id = Some("tidewater-job".to_owned());
    let producer = kafka_wire::TransactionalProducer::new(&config).unwrap();
    block_on(producer.init()).unwrap();
}
