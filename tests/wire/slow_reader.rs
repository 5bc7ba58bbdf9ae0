//! An application that is slower than the network: what comes ahead of it is bounded.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use kafka_wire::config::{ClientConfig, ConsumerConfig, ProducerConfig};
use kafka_wire::{Codec, Consumer, Position, Producer, Record, TopicPartition};
use tidewater_broker::Options;

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
