//! What happens to a record when something breaks.
//!
//! | wanted | settings | price |
//! |---|---|---|
//! | each record once, in order per partition | none: idempotence and `acks=all` are the defaults | the answer of all replicas in sync |
//! | less waiting, some loss with a broker | `acks=1` | no idempotence: a repeated batch may be there twice |
//! | no answers at all | `acks=0` | nobody knows what was lost |
//! | several records, or records and consumed offsets, all or none | `transactional.id` | a round trip or two per transaction |
//!
//! # What an error means
//!
//! Sending is repeated until `delivery.timeout.ms` (2 min) is over. An error then says whether the record can be in the
//! log: [`Error::possibly_written`](crate::Error::possibly_written) is true when an answer was lost, and only reading
//! can tell; false means that it is not there, so that sending it again makes no double.
//! `Producer::close` and `flush` wait for all that was accepted; what is not acknowledged when the last handle is
//! dropped is lost.
//!
//! # A transaction
//!
//! Read, work, write, and commit what was read with what was written: exactly once, for readers with
//! `isolation.level=read_committed`, which is the default here. A newer producer with the same `transactional.id` fences
//! the older one; so that nothing is read twice, the consumer's offsets go with the transaction and are not committed
//! elsewhere.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use kafka_wire::{Consumer, FetchedBatch, Producer, Record, Result};
//! async fn copy(consumer: &mut Consumer, producer: &Producer) -> Result<()> {
//!     producer.init_transactions().await?;
//!     loop {
//!         let batch = consumer.poll(Duration::from_millis(100)).await?;
//!         if batch.is_empty() {
//!             continue;
//!         }
//!         producer.begin_transaction().await?;
//!         if let Err(error) = transaction(consumer, producer, &batch).await {
//!             if !error.is_abortable() {
//!                 return Err(error); // fenced, or its outcome is not known: make another producer
//!             }
//!             producer.abort_transaction().await?;
//!             consumer.seek(batch.topic_partition(), batch.base_offset())?;
//!         }
//!     }
//! }
//!
//! async fn transaction(consumer: &Consumer, producer: &Producer, batch: &FetchedBatch) -> Result<()> {
//!     for record in batch {
//!         let value = record.value.unwrap_or_default().to_ascii_uppercase();
//!         producer.enqueue(Record::to("loud").value(&value)).await?;
//!     }
//!     let next = (batch.topic_partition().clone(), batch.next_position().into());
//!     producer.send_offsets_to_transaction(consumer.group_metadata()?, vec![next]).await?;
//!     producer.commit_transaction().await
//! }
//! ```
//!
//! A poll is one batch of one partition, and a transaction takes several round trips, some of which wait for the markers
//! of the one before: where throughput counts, put what several polls gave out into one transaction, for a hundred
//! milliseconds or so.
//!
//! # Reading
//!
//! Without transactions reading is at least once: commit after the work, and what was polled and not committed comes
//! again after a crash. Offsets that a log no longer has are never skipped silently: `auto.offset.reset` says what then
//! (`earliest`, `latest`, `by_duration:PT1H`, or `none` for an error), and a log that was truncated behind the reader is
//! noticed (KIP-320).
