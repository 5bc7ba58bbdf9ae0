//! What a client costs while nothing happens and while no broker answers. It is counted in a simulation, the client's
//! machine and the broker's on one virtual clock: hours take no time, and each run is the same.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_wire::config::{ClientConfig, ProducerConfig};
use kafka_wire::engine::{ConnectionId, Engine, Output};
use kafka_wire::producer::{Batch, Command, Done, ProducerRole};
use kafka_wire::record::BatchBuilder;
use kafka_wire::{Compression, Error, ErrorKind, TopicPartition};
use tidewater_broker::{Cluster, Now, Options};

const MINUTE: Duration = Duration::from_secs(60);

/// One end of a connection in the broker: it takes a request when it has answered the one before.
struct Line {
    there: tidewater_broker::ConnectionId,
    waiting: VecDeque<Bytes>,
    is_busy: bool,
}

/// What the client was woken for, and what it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    wakes: u64,
    dials: u64,
    requests: u64,
}

/// An idempotent producer and a cluster of one node with the topic `t`.
struct Simulation {
    now: Now,
    producer: Engine<ProducerRole>,
    cluster: Cluster,
    is_down: bool,
    lines: BTreeMap<ConnectionId, Line>,
    cost: Cost,
    fates: Arc<Mutex<Vec<Result<i64, ErrorKind>>>>,
}

impl Simulation {
    #[allow(clippy::disallowed_methods, reason = "the zero of a virtual clock")]
    fn new() -> Self {
        let now = Now { instant: Instant::now(), unix_ms: 1_700_000_000_000 };
        let mut cluster = Cluster::new(now, Options::default().with_topic("t", 1), 1).unwrap();
        cluster.set_address(0, "broker.test", 9092);
        let client = ClientConfig::bootstrap("broker.test:9092").unwrap();
        let config = ProducerConfig { client, ..ProducerConfig::default() };
        let role = ProducerRole::new(&config, 1, Box::new(|_, _| {}));
        let mut producer = Engine::new(now.instant, &config.client, 1, role);
        producer.handle_timeout(now.instant);
        let (lines, cost, fates) = (BTreeMap::new(), Cost::default(), Arc::default());
        Self { now, producer, cluster, is_down: false, lines, cost, fates }
    }

    /// Sends one record.
    fn send(&mut self) {
        let mut builder = BatchBuilder::new(Compression::NONE, 100);
        builder.append(self.now.unix_ms, None, Some(b"v"), &[]).unwrap();
        let fates = Arc::clone(&self.fates);
        let done = Done::new(1, move |fate| {
            let fate = fate.outcome.map(|batch| batch.base_offset.unwrap()).map_err(|error| error.kind());
            fates.lock().unwrap().push(fate);
        });
        let partition = TopicPartition::new("t", 0);
        let batch = Batch { partition, records: builder.seal(), created: self.now.instant, done };
        self.producer.handle_command(self.now.instant, Command::Send(batch));
        self.exchange();
    }

    fn fates(&self) -> Vec<Result<i64, ErrorKind>> {
        self.fates.lock().unwrap().clone()
    }

    /// Every connection breaks, and none can be had from now on.
    fn go_down(&mut self) {
        self.is_down = true;
        for (connection, line) in std::mem::take(&mut self.lines) {
            self.cluster.handle_disconnected(line.there);
            let error = Error::new(ErrorKind::Network, "reset");
            self.producer.handle_disconnected(self.now.instant, connection, error);
        }
        self.exchange();
    }

    /// Lets both say all that they have to say now.
    fn exchange(&mut self) {
        loop {
            if let Some(output) = self.producer.poll_output() {
                self.obey(output);
            } else if let Some(output) = self.cluster.poll_output() {
                self.deliver(output);
            } else {
                break;
            }
        }
        let due = self.producer.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now.instant), "it would be woken at once, again and again");
    }

    fn obey(&mut self, output: Output) {
        let now = self.now.instant;
        match output {
            Output::Dial { connection, .. } => {
                self.cost.dials += 1;
                if self.is_down {
                    let error = Error::new(ErrorKind::Network, "connection refused");
                    return self.producer.handle_disconnected(now, connection, error);
                }
                let there = self.cluster.handle_connected(0);
                self.lines.insert(connection, Line { there, waiting: VecDeque::new(), is_busy: false });
                self.producer.handle_connected(now, connection);
            }
            Output::Transmit { connection, chunks, .. } => {
                self.cost.requests += 1;
                if let Some(line) = self.lines.get_mut(&connection) {
                    line.waiting.push_back(Bytes::from(chunks.concat()).slice(4..));
                }
                self.ask_on(connection);
            }
            Output::Close { connection } => {
                if let Some(line) = self.lines.remove(&connection) {
                    self.cluster.handle_disconnected(line.there);
                }
            }
            Output::Login { .. } => panic!("nobody asks who this is"),
        }
    }

    fn ask_on(&mut self, connection: ConnectionId) {
        let Some(line) = self.lines.get_mut(&connection).filter(|line| !line.is_busy) else { return };
        let Some(request) = line.waiting.pop_front() else { return };
        line.is_busy = true;
        self.cluster.handle_request(self.now, line.there, request);
    }

    fn deliver(&mut self, output: tidewater_broker::Output) {
        let tidewater_broker::Output::Send { connection: there, frame } = output else {
            panic!("every request is answered: {output:?}");
        };
        let Some(connection) = self.lines.iter().find(|(_, line)| line.there == there).map(|(id, _)| *id)
        else {
            return;
        };
        self.producer.handle_bytes(self.now.instant, connection, &mut BytesMut::from(&frame.concat()[..]));
        if let Some(line) = self.lines.get_mut(&connection) {
            line.is_busy = false;
        }
        self.ask_on(connection);
    }

    /// Lets this much time pass; what it has cost.
    fn pass(&mut self, time: Duration) -> Cost {
        self.cost = Cost::default();
        let end = self.now.instant + time;
        loop {
            let due = [self.producer.poll_timeout(), self.cluster.poll_timeout()].into_iter().flatten().min();
            let next = due.map_or(end, |due| due.clamp(self.now.instant, end));
            self.now.unix_ms += (next - self.now.instant).as_millis() as i64;
            self.now.instant = next;
            if self.cluster.poll_timeout().is_some_and(|due| due <= next) {
                self.cluster.handle_timeout(self.now);
            }
            if self.producer.poll_timeout().is_some_and(|due| due <= next) {
                self.cost.wakes += 1;
                self.producer.handle_timeout(next);
            }
            self.exchange();
            if next == end {
                return self.cost;
            }
        }
    }
}

#[test]
fn a_producer_without_work_is_woken_less_than_once_a_minute() {
    let mut simulation = Simulation::new();
    simulation.send();
    simulation.pass(MINUTE);
    assert_eq!(simulation.fates(), [Ok(0)]);
    let cost = simulation.pass(60 * MINUTE);
    // Metadata is asked for every 5 minutes, and connections are closed that nobody needs.
    assert!(cost.wakes < 60 && cost.requests < 60 && cost.dials < 15, "{cost:?}");
    assert!(cost.requests > 0, "it keeps its metadata fresh");
}

#[test]
fn an_outage_costs_an_idempotent_producer_a_dial_a_second_and_nothing_when_it_is_over() {
    let mut simulation = Simulation::new();
    simulation.send();
    simulation.pass(MINUTE);
    simulation.go_down();
    simulation.send();
    for minute in 1..=15 {
        let cost = simulation.pass(MINUTE);
        // The broker and the bootstrap server are the same here, and each is dialled every 0.8 s at most, a few times
        // more at first.
        assert!(cost.dials <= 180 && cost.wakes <= 300, "minute {minute}: {cost:?}");
        assert!(cost.dials >= 40, "it does not give up: minute {minute}: {cost:?}");
    }
    assert_eq!(simulation.fates(), [Ok(0), Err(ErrorKind::Timeout)], "delivery.timeout.ms is over");
    simulation.is_down = false;
    simulation.send();
    simulation.pass(MINUTE);
    assert_eq!(simulation.fates()[2..], [Ok(1)]);
    let cost = simulation.pass(60 * MINUTE);
    assert!(cost.wakes < 60 && cost.requests < 60 && cost.dials < 15, "{cost:?}");
}
