//! A Kafka-aware TCP proxy in front of real brokers: it breaks one request or answer by rule, the rest passes.
//!
//! Brokers must advertise the proxy's ports: see [`crate::real_kafka::Options::proxied`].

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What happens to a request that a rule matches.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection breaks before the broker sees the request.
    LoseRequest,
    /// The broker does it, the connection breaks before the answer arrives: the fate is unknown to the client.
    LoseAnswer,
    /// The request is held back for this long while the connection stays open; later ones wait behind it.
    HoldRequest(Duration),
    /// The request is held back until the gate opens, even if the client has gone by then.
    HoldUntil(Arc<Gate>),
    /// The answer is cut after this many bytes, then the connection breaks.
    CutAnswer(usize),
    /// The byte of the answer that is so many before its end arrives inverted.
    DamageAnswer(usize),
    /// The answer to ApiVersions (version 3 or newer) promises so many versions less of each API, as an older
    /// broker would, but at least the oldest.
    LowerVersions(i16),
}

/// Holds requests back, so that a test decides when they arrive late.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    is_open: bool,
    held: usize,
    answered: usize,
}

impl Gate {
    /// Waits until a request is held.
    ///
    /// # Panics
    /// When none comes in a minute.
    pub fn wait_until_held(&self) {
        self.wait("a request to hold", |state| state.held > 0);
    }

    /// Lets the held requests go, and waits until the broker has answered them; later ones pass at once.
    ///
    /// # Panics
    /// When they are not answered in a minute.
    pub fn open(&self) {
        self.change(|state| state.is_open = true);
        self.wait_until_answered();
    }

    fn wait_until_answered(&self) {
        self.wait("the answers to the held requests", |state| state.answered == state.held);
    }

    fn hold(&self) {
        self.change(|state| state.held += 1);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(state, |state| !state.is_open));
    }

    fn answered(&self) {
        self.change(|state| state.answered += 1);
    }

    fn change(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn wait(&self, what: &str, is_so: impl Fn(&GateState) -> bool) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, _) = self
            .changed
            .wait_timeout_while(state, Duration::from_secs(60), |state| !is_so(state))
            .unwrap_or_else(PoisonError::into_inner);
        assert!(is_so(&state), "no sign of {what} in a minute: {state:?}");
    }
}

#[derive(Debug)]
struct Rule {
    /// The client's `client.id`; `None` matches all.
    client: Option<String>,
    api: i16,
    skip: usize,
    count: usize,
    fault: Fault,
    hits: usize,
}

/// How many requests have come: by the broker's port, the `client.id` and the api.
type Counts = HashMap<(u16, Vec<u8>, i16), usize>;

#[derive(Debug, Default)]
struct Rules {
    rules: Mutex<Vec<Rule>>,
    counts: Mutex<Counts>,
}

impl Rules {
    fn lock(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, client: &[u8], api: i16) -> Option<Fault> {
        let mut rules = self.lock();
        let is_meant = |rule: &Rule| rule.client.as_ref().is_none_or(|id| id.as_bytes() == client);
        let rule = rules.iter_mut().find(|rule| rule.api == api && rule.count > 0 && is_meant(rule))?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.count -= 1;
        rule.hits += 1;
        Some(rule.fault.clone())
    }
}

/// A running proxy; its threads end with the process or when their connections do.
#[derive(Clone, Debug)]
pub struct Proxy {
    rules: Arc<Rules>,
    calls: Arc<Calls>,
}

/// Which versions of which APIs clients have called, by `client.id`.
type Calls = Mutex<HashMap<Vec<u8>, BTreeSet<(i16, i16)>>>;

impl Proxy {
    /// Listens on each `from` port of 127.0.0.1 and forwards to the `to` port beside it.
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub fn start(ports: impl IntoIterator<Item = (u16, u16)>) -> io::Result<Self> {
        let proxy = Self { rules: Arc::default(), calls: Arc::default() };
        for (from, to) in ports {
            let listener = TcpListener::bind(("127.0.0.1", from))?;
            let proxy = proxy.clone();
            std::thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let proxy = proxy.clone();
                    std::thread::spawn(move || serve(client, to, &proxy));
                }
            });
        }
        Ok(proxy)
    }

    /// The calls of one `client.id` so far: Kafka's key of the API, and the version.
    pub fn calls_of(&self, client: &str) -> BTreeSet<(i16, i16)> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.get(client.as_bytes()).cloned().unwrap_or_default()
    }

    /// After `skip` requests of `api` (Kafka's key) have passed, does `fault` to the next `count`.
    pub fn rule(&self, api: i16, skip: usize, count: usize, fault: Fault) {
        self.rules.lock().push(Rule { client: None, api, skip, count, fault, hits: 0 });
    }

    /// The same for the requests of one `client.id`: so tests can share a cluster. The rules of one `api`
    /// take effect one after the other.
    pub fn rule_for(&self, client: &str, api: i16, skip: usize, count: usize, fault: Fault) {
        self.rules.lock().push(Rule { client: Some(client.into()), api, skip, count, fault, hits: 0 });
    }

    /// How many requests of `api` a rule has broken so far: a test that broke none has proved nothing.
    pub fn hits(&self, api: i16) -> usize {
        self.rules.lock().iter().filter(|rule| rule.api == api).map(|rule| rule.hits).sum()
    }

    /// How many requests of `api` the broker that listens on `port` itself has had from `client`.
    pub fn requests(&self, port: u16, client: &str, api: i16) -> usize {
        self.rules.counts().get(&(port, client.as_bytes().to_vec(), api)).copied().unwrap_or_default()
    }

    /// How many faults the rules of [`Self::rule_for`] still have in store for `client`.
    pub fn pending_for(&self, client: &str) -> usize {
        let rules = self.rules.lock();
        rules.iter().filter(|rule| rule.client.as_deref() == Some(client)).map(|rule| rule.count).sum()
    }
}

/// What is to happen to the answer of a request, by correlation id.
type Answers = Arc<Mutex<HashMap<i32, Fault>>>;

fn serve(client: TcpStream, to: u16, proxy: &Proxy) {
    let Ok(broker) = TcpStream::connect(("127.0.0.1", to)) else { return };
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (Ok(client_writer), Ok(broker_reader)) = (client.try_clone(), broker.try_clone()) else { return };
    let answers = Answers::default();
    let expected = Arc::clone(&answers);
    std::thread::spawn(move || {
        let _ = forward_answers(&broker_reader, &client_writer, &expected);
        close(&broker_reader, &client_writer);
    });
    let _ = forward_requests(&client, (&broker, to), proxy, &answers);
    close(&client, &broker);
}

fn close(one: &TcpStream, other: &TcpStream) {
    let _ = (one.shutdown(Shutdown::Both), other.shutdown(Shutdown::Both));
}

fn forward_requests(
    client: &TcpStream,
    (broker, port): (&TcpStream, u16),
    proxy: &Proxy,
    answers: &Answers,
) -> io::Result<()> {
    loop {
        let frame = read_frame(client)?;
        let (api, version, correlation_id) = header(&frame)?;
        let id = client_id(&frame);
        *proxy.rules.counts().entry((port, id.to_vec(), api)).or_default() += 1;
        proxy
            .calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(id.to_vec())
            .or_default()
            .insert((api, version));
        let mut fault = proxy.rules.fault(id, api);
        if version < LOWERED_FROM {
            fault = fault.filter(|fault| !matches!(fault, Fault::LowerVersions(_)));
        }
        match &fault {
            Some(Fault::LoseRequest) => return Ok(()),
            Some(Fault::HoldRequest(time)) => std::thread::sleep(*time),
            Some(Fault::HoldUntil(gate)) => gate.hold(),
            Some(
                Fault::LoseAnswer | Fault::CutAnswer(_) | Fault::DamageAnswer(_) | Fault::LowerVersions(_),
            )
            | None => {}
        }
        if let Some(fault) = &fault {
            answers.lock().unwrap_or_else(PoisonError::into_inner).insert(correlation_id, fault.clone());
        }
        write_all(broker, &frame)?;
        if let Some(Fault::HoldUntil(gate)) = fault {
            // Its client may have hung up long ago, which must not end the connection to the broker now.
            gate.wait_until_answered();
        }
    }
}

fn forward_answers(broker: &TcpStream, client: &TcpStream, answers: &Answers) -> io::Result<()> {
    loop {
        let mut frame = read_frame(broker)?;
        let correlation_id = i32::from_be_bytes(four(&frame, 4)?);
        let fault = answers.lock().unwrap_or_else(PoisonError::into_inner).remove(&correlation_id);
        match fault {
            Some(Fault::LoseAnswer) => return Ok(()),
            Some(Fault::CutAnswer(bytes)) => return write_all(client, &frame[..bytes.min(frame.len())]),
            Some(Fault::DamageAnswer(from_the_end)) => {
                if let Some(byte) = frame.iter_mut().nth_back(from_the_end) {
                    *byte = !*byte;
                }
                write_all(client, &frame)?;
            }
            Some(Fault::LowerVersions(by)) => {
                lower_versions(&mut frame, by)?;
                write_all(client, &frame)?;
            }
            Some(Fault::HoldUntil(gate)) => {
                gate.answered();
                write_all(client, &frame)?;
            }
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

/// The API's key, the version and the correlation id of a request.
fn header(frame: &[u8]) -> io::Result<(i16, i16, i32)> {
    let [a, b, c, d] = four(frame, 4)?;
    Ok((i16::from_be_bytes([a, b]), i16::from_be_bytes([c, d]), i32::from_be_bytes(four(frame, 8)?)))
}

/// The first version of ApiVersions whose answer [`lower_versions`] can change; earlier ones pass.
const LOWERED_FROM: i16 = 3;

/// Changes an answer to ApiVersions in place. Behind size, correlation id and error code stands the count plus one,
/// in groups of 7 bits, then for each API key, oldest and newest version in 2 bytes, and a byte for no tags.
fn lower_versions(frame: &mut [u8], by: i16) -> io::Result<()> {
    let short = || io::Error::other("an answer to ApiVersions that is too short");
    let mut at = 10;
    let (mut count, mut shift) = (0_usize, 0);
    loop {
        let byte = *frame.get(at).ok_or_else(short)?;
        (count, shift, at) = (count | usize::from(byte & 127) << shift, shift + 7, at + 1);
        if byte < 128 || shift > 14 {
            break;
        }
    }
    for entry in frame.get_mut(at..at + 7 * count.saturating_sub(1)).ok_or_else(short)?.chunks_exact_mut(7) {
        let (oldest, newest) =
            (i16::from_be_bytes([entry[2], entry[3]]), i16::from_be_bytes([entry[4], entry[5]]));
        // What finds brokers for all other calls stays in a version that can: FindCoordinator from 1 (transactions),
        // Metadata from 4 (without creating topics).
        let floor = match entry[..2] {
            [0, 10] => 1,
            [0, 3] => 4,
            _ => 0,
        };
        let oldest = oldest.max(floor);
        entry[4..6].copy_from_slice(&oldest.max(newest - by).to_be_bytes());
    }
    Ok(())
}

/// The `client.id` in a request's header; empty where there is none.
fn client_id(frame: &[u8]) -> &[u8] {
    let length = frame.get(12..14).map_or(0, |bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])));
    frame.get(14..14 + length).unwrap_or_default()
}

fn four(frame: &[u8], at: usize) -> io::Result<[u8; 4]> {
    let bytes = frame.get(at..at + 4).ok_or_else(|| io::Error::other("a frame shorter than its header"))?;
    bytes.try_into().map_err(io::Error::other)
}
