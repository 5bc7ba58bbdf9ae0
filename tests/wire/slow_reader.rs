//! An application that is slower than the network: what comes ahead of it is bounded.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use kafka_wire::config::{ClientConfig, ConsumerConfig, ProducerConfig};
use kafka_wire::{Codec, CommittedOffset, Consumer, Position, Producer, Record, TopicPartition};
use tidewater_broker::Options;

use crate::consumer_reads::{consumer, partition, write};
use crate::{block_on, broker};

/// Where a client connects to in the broker's place; counts what the broker sends.
struct Meter {
    address: SocketAddr,
    sent: Arc<AtomicUsize>,
}

impl Meter {
    fn start(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(broker) else { continue };
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let counter = Arc::clone(&counter);
                thread::spawn(move || pass(client, server, &AtomicUsize::new(0)));
                thread::spawn(move || pass(back.0, back.1, &counter));
            }
        });
        Self { address, sent }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, counter: &AtomicUsize) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        counter.fetch_add(count, Ordering::SeqCst);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Either side may have ended it.
    let _ = to.shutdown(Shutdown::Both);
}

/// Twenty megabytes lie ready, the application takes one record at a time, and at no time is more under way or in
/// memory than `queued.max.bytes`, and what the sockets between hold.
#[test]
fn what_is_fetched_ahead_of_a_slow_application_is_bounded() {
    const RECORDS: usize = 20_000;
    const QUEUED_MAX: usize = 1 << 20;
    // What sockets and the meter may hold besides, and what is not records.
    const BETWEEN: usize = 512 << 10;
    for codec in [Codec::None, Codec::Lz4] {
        let broker = broker(Options::default().with_topic("t", 4));
        let client = ClientConfig::bootstrap(&broker.bootstrap()).unwrap();
        let config = ProducerConfig { client, compression: codec, ..ProducerConfig::default() };
        let producer = Producer::new(config).unwrap();
        let mut noise = 1_u64;
        for index in 0..RECORDS {
            // Bytes that no codec makes small.
            let value: Vec<u8> = (0..125)
                .flat_map(|_| {
                    noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (noise ^ (noise >> 29)).to_be_bytes()
                })
                .collect();
            let record = Record::to("t").partition(index as i32 % 4).value(&value);
            drop(producer.enqueue_blocking(record).unwrap());
        }
        block_on(producer.flush());

        let meter = Meter::start(broker.addresses()[0]);
        broker.control(|cluster, _| cluster.set_address(0, "127.0.0.1", meter.address.port()));
        let client = ClientConfig::bootstrap(&meter.address.to_string()).unwrap();
        let config = ConsumerConfig {
            client,
            max_poll_records: Some(1),
            queued_max_bytes: QUEUED_MAX,
            ..ConsumerConfig::default()
        };
        let mut consumer = Consumer::new(config).unwrap();
        consumer
            .assign((0..4).map(|partition| (TopicPartition::new("t", partition), Position::Beginning)))
            .unwrap();
        let (mut records, mut taken) = (0, 0);
        while records < RECORDS {
            let batch = consumer.poll_blocking(Duration::from_secs(60)).unwrap();
            assert!(batch.len() == 1, "{} records after {records}", batch.len());
            records += 1;
            // A value and what goes with it.
            taken += batch.iter().map(|record| record.value.unwrap().len() + 32).sum::<usize>();
            let sent = meter.sent.load(Ordering::SeqCst);
            assert!(
                sent <= taken + QUEUED_MAX + BETWEEN,
                "{sent} bytes were sent, {taken} taken ({codec:?})"
            );
        }
        assert!(meter.sent.load(Ordering::SeqCst) > RECORDS * 1000, "all of it came this way");
    }
}

/// Else its records would be lost: the position has passed them.
#[test]
fn a_batch_is_handed_out_also_when_too_many_commands_wait_for_the_client() {
    let broker = broker(Options::default().with_topic("t", 1));
    write(&broker, "t", 0..20);
    // Room for one batch, so that each one that is taken is told to the client.
    let mut consumer = consumer(&broker, |config| config.queued_max_bytes = 200);
    consumer.assign([(partition("t"), Position::Beginning)]).unwrap();
    while !consumer.is_in_contact(&partition("t")) {
        thread::yield_now();
    }
    // Its thread is held up, and its mailbox filled.
    let ((entered, is_entered), (release, is_released)) = (mpsc::channel(), mpsc::channel());
    let held_up = move |_| {
        entered.send(()).unwrap();
        is_released.recv().unwrap();
    };
    let offset = || CommittedOffset { offset: 0, leader_epoch: None, metadata: String::new() };
    consumer.commit_async([(partition("t"), offset())], held_up).unwrap();
    is_entered.recv().unwrap();
    while consumer.commit_async([(partition("t"), offset())], drop).is_ok() {}
    let mut seen = Vec::new();
    while let Poll::Ready(batch) = consumer.poll_batch(&mut Context::from_waker(Waker::noop())) {
        seen.extend(batch.unwrap().iter().map(|record| record.offset));
    }
    assert!(!seen.is_empty());
    // Nor do the two sides disagree about where it reads on.
    consumer.pause([&partition("t")]).unwrap();
    consumer.seek(&partition("t"), seen.len() as i64).unwrap();
    consumer.resume([&partition("t")]).unwrap();
    release.send(()).unwrap();
    while seen.len() < 20 {
        let batch = consumer.poll_blocking(Duration::from_secs(30)).unwrap();
        assert!(!batch.is_empty(), "{} of 20 records came", seen.len());
        seen.extend(batch.iter().map(|record| record.offset));
    }
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}
