use std::sync::Arc;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::Schema as AvroSchema;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cache::Cache;
use super::client::{Registration, SchemaRegistry};
use super::framing::{prefix, read_frame};
use super::model::{Schema, SchemaFormat, SchemaId, Subject};
use crate::error::{Error, ErrorKind, Result};

/// Writes values in Avro, with a schema that a registry knows.
#[derive(Debug)]
pub struct AvroSerializer {
    id: SchemaId,
    schema: ParsedSchema,
}

impl AvroSerializer {
    /// A serializer for `schema`, under `subject`. Asks the registry; [`serialize`](Self::serialize) does not.
    ///
    /// # Errors
    /// Of the registry, see [`SchemaRegistry`]; `Schema` when the schema is not Avro.
    pub async fn new(
        registry: &SchemaRegistry,
        subject: &Subject,
        schema: &Schema,
        registration: Registration,
    ) -> Result<Self> {
        let (id, schema) = registry.resolve(subject, schema, registration).await?;
        Ok(Self { id, schema: ParsedSchema::new(registry, &schema).await? })
    }

    /// The value in the wire format.
    ///
    /// # Errors
    /// `Schema` when it does not fit the schema.
    pub fn serialize<T: Serialize>(&self, value: &T) -> Result<Vec<u8>> {
        let mut written = prefix(self.id).to_vec();
        let refused = |cause| failed(format!("write a value in Avro by schema {}", self.id), cause);
        let writer = GenericDatumWriter::builder(&self.schema.schema);
        let writer = writer.schemata(self.schema.all()).and_then(|writer| writer.build()).map_err(refused)?;
        writer.write_ser(&mut written, value).map_err(refused)?;
        Ok(written)
    }
}

/// Reads values in Avro: each by the schema that wrote it, which a registry knows.
///
/// With [`read_as`](Self::read_as), values take the shape of one schema of yours, by Avro's rules: fields that
/// it lacks are left out, and those that the writer lacked get their defaults.
#[derive(Debug)]
pub struct AvroDeserializer {
    registry: SchemaRegistry,
    reader: Option<AvroSchema>,
    writers: Cache<ParsedSchema>,
}

impl AvroDeserializer {
    /// A deserializer that gives values as they were written.
    pub fn new(registry: &SchemaRegistry) -> Self {
        Self { registry: registry.clone(), reader: None, writers: Cache::new() }
    }

    /// Gives values the shape of this schema, which must refer to no other.
    ///
    /// # Errors
    /// `Schema` when it is not valid.
    pub fn read_as(mut self, schema: &str) -> Result<Self> {
        let parsed = AvroSchema::parse_str(schema);
        self.reader =
            Some(parsed.map_err(|cause| failed("parse the Avro schema to read with".into(), cause))?);
        Ok(self)
    }

    /// The value. Asks the registry when the schema's id is met for the first time.
    ///
    /// # Errors
    /// Of the registry, see [`SchemaRegistry`]; `Schema` when the bytes are not what the schema says, or not
    /// what `T` wants.
    pub async fn deserialize<T: DeserializeOwned>(&self, value: &[u8]) -> Result<T> {
        let framed = read_frame(value)?;
        let writer = self.writer(framed.id).await?;
        let refused = |cause| failed(format!("read a value in Avro by schema {}", framed.id), cause);
        let reader = GenericDatumReader::builder(&writer.schema).writer_schemata(writer.all());
        let reader = reader.and_then(|reader| reader.maybe_reader_schema(self.reader.as_ref()).build());
        let mut rest = framed.payload;
        let value = reader.and_then(|reader| reader.read_value(&mut rest)).map_err(refused)?;
        if !rest.is_empty() {
            let text = format!("read a value in Avro by schema {}: {} bytes are left", framed.id, rest.len());
            return Err(Error::new(ErrorKind::Schema, text));
        }
        apache_avro::from_value(&value).map_err(refused)
    }

    async fn writer(&self, id: SchemaId) -> Result<Arc<ParsedSchema>> {
        if let Some(known) = self.writers.find(id) {
            return Ok(known);
        }
        let schema = self.registry.schema_of(id, SchemaFormat::Avro).await?;
        let parsed = ParsedSchema::new(&self.registry, &schema).await?;
        Ok(self.writers.keep(id, parsed))
    }
}

#[derive(Debug)]
struct ParsedSchema {
    schema: AvroSchema,
    references: Vec<AvroSchema>,
}

impl ParsedSchema {
    async fn new(registry: &SchemaRegistry, schema: &Schema) -> Result<Self> {
        let references = registry.references(schema).await?;
        let texts = references.iter().map(|(_, reference)| reference.text.as_str());
        let (schema, references) = AvroSchema::parse_str_with_list(&schema.text, texts)
            .map_err(|cause| failed("parse an Avro schema".into(), cause))?;
        Ok(Self { schema, references })
    }

    fn all(&self) -> Vec<&AvroSchema> {
        self.references.iter().chain([&self.schema]).collect()
    }
}

fn failed(attempted: String, cause: apache_avro::Error) -> Error {
    Error::new(ErrorKind::Schema, attempted).with_cause(cause)
}
