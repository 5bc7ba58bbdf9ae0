//! Client quotas (KIP-13, KIP-546): what is set for whom, and how far beyond it somebody is.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// A user, a client id or an address, or several of them together: by type; `None` is the default of its type.
pub(crate) type Entity = BTreeMap<String, Option<String>>;

pub(crate) const USER: &str = "user";
pub(crate) const CLIENT_ID: &str = "client-id";
pub(crate) const IP: &str = "ip";

pub(crate) const PRODUCER_BYTE_RATE: &str = "producer_byte_rate";
pub(crate) const CONSUMER_BYTE_RATE: &str = "consumer_byte_rate";
pub(crate) const CONTROLLER_MUTATION_RATE: &str = "controller_mutation_rate";
pub(crate) const REQUEST_PERCENTAGE: &str = "request_percentage";
pub(crate) const CONNECTION_CREATION_RATE: &str = "connection_creation_rate";

/// What a request costs in percent of a thread's second: there are no threads to measure here, so each counts as one
/// millisecond.
pub(crate) const REQUEST_PERCENT: f64 = 0.1;

/// Entities with quotas kept at most.
pub(crate) const ENTITIES_MAX: usize = 10_000;
/// Clients measured at most; beyond, the measure that was used longest ago goes.
const METERS_MAX: usize = 10_000;
/// As `quota.window.size.seconds` and `quota.window.num`.
const WINDOW: Duration = Duration::from_secs(1);
const WINDOWS: u32 = 11;
/// The longest pause for too many bytes or partitions.
const PAUSE_MAX: Duration = Duration::from_secs(WINDOW.as_secs() * WINDOWS as u64);
/// The longest pause for too many requests or connections, as Kafka has it: one window.
const SHORT_PAUSE_MAX: Duration = WINDOW;

/// Who is measured together: what limits them, for which entity, and by which client.
type MeterKey = (&'static str, Entity, String, String);

/// The quotas of a cluster, with what is measured against them.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    by_entity: BTreeMap<Entity, BTreeMap<String, f64>>,
    meters: BTreeMap<MeterKey, Meter>,
    buckets: BTreeMap<MeterKey, Bucket>,
}

/// What somebody may still create and delete: it fills up by itself (KIP-599, Kafka's `TokenBucket`).
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// What fits in: all that the windows together allow.
    fn size(limit: f64) -> f64 {
        limit * f64::from(WINDOWS) * WINDOW.as_secs_f64()
    }

    fn fill(&mut self, now: Instant, limit: f64) {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + since * limit).min(Self::size(limit));
        self.at = now;
    }

    /// How long until there is something in it again.
    fn pause(&self, limit: f64) -> Duration {
        let seconds = (-self.tokens / limit.max(f64::MIN_POSITIVE)).clamp(0.0, f64::from(i32::MAX) / 1_000.0);
        Duration::from_secs_f64(seconds)
    }
}

/// The last windows of a rate.
#[derive(Debug, Default)]
struct Meter {
    /// When each window began, and what was counted in it.
    windows: VecDeque<(Instant, f64)>,
}

impl Meter {
    fn expire(&mut self, now: Instant) {
        while self.windows.front().is_some_and(|(start, _)| now.duration_since(*start) >= WINDOW * WINDOWS) {
            self.windows.pop_front();
        }
    }

    /// Counts, and says what comes out as rate per second, over how long: never less than all windows but the
    /// one that runs, so that the first requests are no burst.
    fn add(&mut self, now: Instant, amount: f64) -> (f64, Duration) {
        self.expire(now);
        match self.windows.back_mut().filter(|(start, _)| now.duration_since(*start) < WINDOW) {
            Some((_, sum)) => *sum += amount,
            None => self.windows.push_back((now, amount)),
        }
        let age = self.windows.front().map_or(Duration::ZERO, |(start, _)| now.duration_since(*start));
        let period = age.max(WINDOW * (WINDOWS - 1));
        let sum: f64 = self.windows.iter().map(|(_, sum)| sum).sum();
        (sum / period.as_secs_f64(), period)
    }

    /// Takes back what was counted last.
    fn take_back(&mut self, amount: f64) {
        if let Some((_, sum)) = self.windows.back_mut() {
            *sum -= amount;
        }
    }
}

impl Quotas {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Entity, &BTreeMap<String, f64>)> {
        self.by_entity.iter()
    }

    pub(crate) fn get(&self, entity: &Entity) -> Option<&BTreeMap<String, f64>> {
        self.by_entity.get(entity)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_entity.len()
    }

    /// Sets all quotas of an entity; none removes it.
    pub(crate) fn set(&mut self, entity: Entity, values: BTreeMap<String, f64>) {
        self.meters.retain(|(_, measured, _, _), _| *measured != entity);
        self.buckets.retain(|(_, measured, _, _), _| *measured != entity);
        if values.is_empty() {
            self.by_entity.remove(&entity);
        } else {
            self.by_entity.insert(entity, values);
        }
    }

    /// The entity whose quota holds for a client, and the quota: the most specific one (KIP-55).
    fn limit(&self, quota: &str, user: &str, client_id: &str) -> Option<(&Entity, f64)> {
        let (user, client_id) = (Some(user.to_owned()), Some(client_id.to_owned()));
        let users = [Some(user), Some(None), None];
        let candidates = users.into_iter().flat_map(|user| {
            [Some(client_id.clone()), Some(None), None].map(|client_id| {
                let named = user.clone().map(|user| (USER.to_owned(), user));
                let client = client_id.map(|id| (CLIENT_ID.to_owned(), id));
                named.into_iter().chain(client).collect::<Entity>()
            })
        });
        for candidate in candidates {
            if let Some((entity, values)) = self.by_entity.get_key_value(&candidate)
                && let Some(limit) = values.get(quota)
            {
                return Some((entity, *limit));
            }
        }
        None
    }

    /// The entity whose quota holds for an address, and the quota.
    fn limit_of_address(&self, quota: &str, address: &str) -> Option<(&Entity, f64)> {
        [Some(address.to_owned()), None].into_iter().find_map(|name| {
            let entity = Entity::from([(IP.to_owned(), name)]);
            let (entity, values) = self.by_entity.get_key_value(&entity)?;
            Some((entity, *values.get(quota)?))
        })
    }

    /// Counts a connection from an address; how long it has to wait for being closed, if it is one too many.
    pub(crate) fn connect(&mut self, now: Instant, address: &str) -> Option<Duration> {
        let (entity, limit) = self.limit_of_address(CONNECTION_CREATION_RATE, address)?;
        let key = (CONNECTION_CREATION_RATE, entity.clone(), address.to_owned(), String::new());
        let pause = self.add(now, key.clone(), limit, 1.0).min(SHORT_PAUSE_MAX);
        if pause.is_zero() {
            return None;
        }
        if let Some(meter) = self.meters.get_mut(&key) {
            meter.take_back(1.0);
        }
        Some(pause)
    }

    /// Counts `amount` against a quota of a client; how long it has to pause now.
    pub(crate) fn charge(
        &mut self,
        now: Instant,
        quota: &'static str,
        user: &str,
        client_id: &str,
        amount: f64,
    ) -> Duration {
        if self.by_entity.is_empty() {
            return Duration::ZERO;
        }
        let Some((entity, limit)) = self.limit(quota, user, client_id) else { return Duration::ZERO };
        let key = meter_key(quota, entity, user, client_id);
        let longest = if quota == REQUEST_PERCENTAGE { SHORT_PAUSE_MAX } else { PAUSE_MAX };
        self.add(now, key, limit, amount).min(longest)
    }

    /// Counts partitions that a client creates or deletes; how long it has to pause. A `strict` request of a client that
    /// owes something already is refused instead, and does not count.
    ///
    /// # Errors
    /// The pause, where the request is refused.
    pub(crate) fn charge_partitions(
        &mut self,
        now: Instant,
        user: &str,
        client_id: &str,
        partitions: f64,
        strict: bool,
    ) -> Result<Duration, Duration> {
        let Some((entity, limit)) = self.limit(CONTROLLER_MUTATION_RATE, user, client_id) else {
            return Ok(Duration::ZERO);
        };
        let key = meter_key(CONTROLLER_MUTATION_RATE, entity, user, client_id);
        if self.buckets.len() >= METERS_MAX && !self.buckets.contains_key(&key) {
            let oldest = self.buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(key, _)| key.clone());
            oldest.map(|oldest| self.buckets.remove(&oldest));
        }
        let full = Bucket { tokens: Bucket::size(limit), at: now };
        let bucket = self.buckets.entry(key).or_insert(full);
        bucket.fill(now, limit);
        if strict && bucket.tokens < 0.0 {
            return Err(bucket.pause(limit));
        }
        bucket.tokens -= partitions;
        Ok(if strict { Duration::ZERO } else { bucket.pause(limit) })
    }

    /// Counts; how long it takes until the rate is the limit again.
    fn add(&mut self, now: Instant, key: MeterKey, limit: f64, amount: f64) -> Duration {
        if self.meters.len() >= METERS_MAX && !self.meters.contains_key(&key) {
            let last_used = |meter: &Meter| meter.windows.back().map(|(start, _)| *start);
            let oldest =
                self.meters.iter().min_by_key(|(_, meter)| last_used(meter)).map(|(key, _)| key.clone());
            oldest.map(|oldest| self.meters.remove(&oldest));
        }
        let (rate, period) = self.meters.entry(key).or_default().add(now, amount);
        if rate <= limit {
            return Duration::ZERO;
        }
        let beyond = (rate - limit) / limit.max(f64::MIN_POSITIVE);
        period.mul_f64(beyond.min(f64::from(WINDOWS)))
    }

    /// Takes back what was charged but not delivered.
    pub(crate) fn take_back(&mut self, quota: &'static str, user: &str, client_id: &str, amount: f64) {
        let Some((entity, _)) = self.limit(quota, user, client_id) else { return };
        let key = meter_key(quota, entity, user, client_id);
        if let Some(meter) = self.meters.get_mut(&key) {
            meter.take_back(amount);
        }
    }
}

/// An entity's limit holds for each user and client id that it speaks of, not for all of them together.
fn meter_key(quota: &'static str, entity: &Entity, user: &str, client_id: &str) -> MeterKey {
    let of =
        |kind: &str, value: &str| if entity.contains_key(kind) { value.to_owned() } else { String::new() };
    (quota, entity.clone(), of(USER, user), of(CLIENT_ID, client_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(parts: &[(&str, Option<&str>)]) -> Entity {
        parts.iter().map(|(kind, name)| ((*kind).to_owned(), name.map(str::to_owned))).collect()
    }

    fn set(quotas: &mut Quotas, parts: &[(&str, Option<&str>)], limit: f64) {
        quotas.set(entity(parts), BTreeMap::from([(PRODUCER_BYTE_RATE.to_owned(), limit)]));
    }

    #[test]
    fn the_most_specific_quota_holds() {
        let mut quotas = Quotas::default();
        let limit = |quotas: &Quotas| quotas.limit(PRODUCER_BYTE_RATE, "u", "c").map(|(_, limit)| limit);
        assert_eq!(limit(&quotas), None);
        let from_general: [&[(&str, Option<&str>)]; 8] = [
            &[(CLIENT_ID, None)],
            &[(CLIENT_ID, Some("c"))],
            &[(USER, None)],
            &[(USER, None), (CLIENT_ID, None)],
            &[(USER, None), (CLIENT_ID, Some("c"))],
            &[(USER, Some("u"))],
            &[(USER, Some("u")), (CLIENT_ID, None)],
            &[(USER, Some("u")), (CLIENT_ID, Some("c"))],
        ];
        for (rank, parts) in (1..).zip(from_general) {
            set(&mut quotas, parts, f64::from(rank));
            assert_eq!(limit(&quotas), Some(f64::from(rank)), "{parts:?}");
        }
        assert_eq!(quotas.limit(CONSUMER_BYTE_RATE, "u", "c"), None);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant will do as the zero of a virtual clock")]
    fn who_goes_beyond_pauses_until_the_rate_fits_again() {
        let mut quotas = Quotas::default();
        set(&mut quotas, &[(USER, None)], 100.0);
        let start = Instant::now();
        let charge = |quotas: &mut Quotas, user: &str, at_s: u64, amount: f64| {
            let now = start + Duration::from_secs(at_s);
            quotas.charge(now, PRODUCER_BYTE_RATE, user, "c", amount)
        };
        assert_eq!(charge(&mut quotas, "a", 0, 1_000.0), Duration::ZERO, "100 a second over ten");
        assert_eq!(
            charge(&mut quotas, "a", 0, 500.0),
            Duration::from_secs(5),
            "1,500 over ten are half too many"
        );
        assert_eq!(charge(&mut quotas, "b", 0, 1_000.0), Duration::ZERO, "each user has its own");
        assert_eq!(charge(&mut quotas, "a", 20, 1_000.0), Duration::ZERO, "old windows are forgotten");
        quotas.take_back(PRODUCER_BYTE_RATE, "a", "c", 1_000.0);
        assert_eq!(charge(&mut quotas, "a", 20, 1_000.0), Duration::ZERO);
        set(&mut quotas, &[(USER, None)], f64::MIN_POSITIVE);
        assert_eq!(charge(&mut quotas, "a", 20, f64::MAX), Duration::from_secs(11), "and never for ever");
    }
}
