//! A Kafka-aware TCP proxy in front of real brokers: it breaks one request or answer by rule, the rest passes.
//!
//! Brokers must advertise the proxy's ports: see [`crate::real_kafka::Options::proxied`].

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What happens to a request that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks before the broker sees the request.
    LoseRequest,
    /// The broker does it, the connection breaks before the answer arrives: the fate is unknown to the client.
    LoseAnswer,
    /// The request is held back for this long while the connection stays open; later ones wait behind it.
    HoldRequest(Duration),
    /// The answer is cut after this many bytes, then the connection breaks.
    CutAnswer(usize),
}

#[derive(Debug)]
struct Rule {
    api: i16,
    skip: usize,
    count: usize,
    fault: Fault,
    hits: usize,
}

#[derive(Debug, Default)]
struct Rules(Mutex<Vec<Rule>>);

impl Rules {
    fn lock(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, api: i16) -> Option<Fault> {
        let mut rules = self.lock();
        let rule = rules.iter_mut().find(|rule| rule.api == api && rule.count > 0)?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.count -= 1;
        rule.hits += 1;
        Some(rule.fault)
    }
}

/// A running proxy; its threads end with the process or when their connections do.
#[derive(Clone, Debug)]
pub struct Proxy {
    rules: Arc<Rules>,
}

impl Proxy {
    /// Listens on each `from` port of 127.0.0.1 and forwards to the `to` port beside it.
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub fn start(ports: impl IntoIterator<Item = (u16, u16)>) -> io::Result<Self> {
        let rules = Arc::<Rules>::default();
        for (from, to) in ports {
            let listener = TcpListener::bind(("127.0.0.1", from))?;
            let rules = Arc::clone(&rules);
            std::thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let rules = Arc::clone(&rules);
                    std::thread::spawn(move || serve(client, to, &rules));
                }
            });
        }
        Ok(Self { rules })
    }

    /// After `skip` requests of `api` (Kafka's key) have passed, does `fault` to the next `count`.
    pub fn rule(&self, api: i16, skip: usize, count: usize, fault: Fault) {
        self.rules.lock().push(Rule { api, skip, count, fault, hits: 0 });
    }

    /// How many requests of `api` a rule has broken so far: a test that broke none has proved nothing.
    pub fn hits(&self, api: i16) -> usize {
        self.rules.lock().iter().filter(|rule| rule.api == api).map(|rule| rule.hits).sum()
    }
}

/// What is to happen to the answer of a request, by correlation id.
type Answers = Arc<Mutex<HashMap<i32, Fault>>>;

fn serve(client: TcpStream, to: u16, rules: &Rules) {
    let Ok(broker) = TcpStream::connect(("127.0.0.1", to)) else { return };
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (Ok(client_writer), Ok(broker_reader)) = (client.try_clone(), broker.try_clone()) else { return };
    let answers = Answers::default();
    let expected = Arc::clone(&answers);
    std::thread::spawn(move || {
        let _ = forward_answers(&broker_reader, &client_writer, &expected);
        close(&broker_reader, &client_writer);
    });
    let _ = forward_requests(&client, &broker, rules, &answers);
    close(&client, &broker);
}

fn close(one: &TcpStream, other: &TcpStream) {
    let _ = (one.shutdown(Shutdown::Both), other.shutdown(Shutdown::Both));
}

fn forward_requests(
    client: &TcpStream,
    broker: &TcpStream,
    rules: &Rules,
    answers: &Answers,
) -> io::Result<()> {
    loop {
        let frame = read_frame(client)?;
        let (api, correlation_id) = header(&frame)?;
        match rules.fault(api) {
            None => {}
            Some(Fault::LoseRequest) => return Ok(()),
            Some(Fault::HoldRequest(time)) => std::thread::sleep(time),
            Some(fault @ (Fault::LoseAnswer | Fault::CutAnswer(_))) => {
                answers.lock().unwrap_or_else(PoisonError::into_inner).insert(correlation_id, fault);
            }
        }
        write_all(broker, &frame)?;
    }
}

fn forward_answers(broker: &TcpStream, client: &TcpStream, answers: &Answers) -> io::Result<()> {
    loop {
        let frame = read_frame(broker)?;
        let correlation_id = i32::from_be_bytes(four(&frame, 4)?);
        let fault = answers.lock().unwrap_or_else(PoisonError::into_inner).remove(&correlation_id);
        match fault {
            Some(Fault::LoseAnswer) => return Ok(()),
            Some(Fault::CutAnswer(bytes)) => return write_all(client, &frame[..bytes.min(frame.len())]),
            _ => write_all(client, &frame)?,
        }
    }
}

fn write_all(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)
}

/// A frame with its size prefix.
fn read_frame(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let length = usize::try_from(i32::from_be_bytes(size)).map_err(io::Error::other)?;
    let mut frame = vec![0; 4 + length];
    frame[..4].copy_from_slice(&size);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}

fn header(frame: &[u8]) -> io::Result<(i16, i32)> {
    let [high, low, ..] = four(frame, 4)?;
    Ok((i16::from_be_bytes([high, low]), i32::from_be_bytes(four(frame, 8)?)))
}

fn four(frame: &[u8], at: usize) -> io::Result<[u8; 4]> {
    let bytes = frame.get(at..at + 4).ok_or_else(|| io::Error::other("a frame shorter than its header"))?;
    bytes.try_into().map_err(io::Error::other)
}
