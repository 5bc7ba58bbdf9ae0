//! Guides: how things are done, for who comes from another client or to a new subject. Reference is with the types.
//!
//! - [`from_rdkafka`], [`from_java`]: what is called what, and what is different.
//! - [`delivery`]: what happens to a record when something breaks; acknowledgements, idempotence, transactions.
//! - [`groups`]: members, rebalances and commits; share groups.
//! - [`security`]: a properties file for each way to log in.
//! - [`observability`]: figures, spans, logs.
//! - [`tuning`]: what bounds memory, what makes batches.
//! - [`testing`]: the embedded broker.
//!
//! Schemas have theirs where the code is, behind the feature `schema`: `kafka_wire::schema`.

pub mod delivery;
pub mod from_java;
pub mod from_rdkafka;
pub mod groups;
pub mod observability;
pub mod security;
pub mod testing;
pub mod tuning;
