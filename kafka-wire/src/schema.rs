//! Schemas: a client of Confluent's schema registry, and values in its wire format. Layer 11.
//!
//! A record's value (or key) begins with a zero byte and the id under which the registry knows the schema
//! that wrote it; the value follows, in Avro, JSON or Protobuf. Serializers ask the registry once, when they
//! are made, and then need it no more; deserializers ask it once for each id that they meet.
//!
//! ```no_run
//! # async fn example() -> kafka_wire::Result<()> {
//! use kafka_wire::schema::{
//!     AvroDeserializer, AvroSerializer, Registration, Schema, SchemaRegistry, SchemaRegistryConfig, Subject,
//! };
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Click {
//!     user: String,
//!     at: i64,
//! }
//!
//! let registry = SchemaRegistry::new(SchemaRegistryConfig::new("http://localhost:8081"))?;
//! let schema = Schema::avro(
//!     r#"{"type": "record", "name": "Click", "fields": [
//!         {"name": "user", "type": "string"}, {"name": "at", "type": "long"}]}"#,
//! );
//! let subject = Subject::of_value("clicks");
//! let serializer = AvroSerializer::new(&registry, &subject, &schema, Registration::Register).await?;
//! let value: Vec<u8> = serializer.serialize(&Click { user: "ada".into(), at: 0 })?;
//!
//! let deserializer = AvroDeserializer::new(&registry);
//! let click: Click = deserializer.deserialize(&value).await?;
//! # Ok(())
//! # }
//! ```

mod avro;
mod cache;
mod client;
mod config;
mod framing;
mod json;
mod model;
mod protobuf;
mod transport;

pub use avro::{AvroDeserializer, AvroSerializer};
pub use client::{Registration, SchemaRegistry};
pub use config::{Authorization, SchemaRegistryConfig};
pub use framing::{Framed, read_frame};
pub use json::{JsonDeserializer, JsonSerializer};
pub use model::{
    Compatibility, RegisteredSchema, Schema, SchemaFormat, SchemaId, SchemaReference, Subject, SubjectVersion,
};
pub use protobuf::{ProtobufDeserializer, ProtobufMessage, ProtobufSerializer};
