use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::cache::Cache;
use super::client::{Registration, SchemaRegistry};
use super::framing::{prefix, read_frame, read_message_path, write_message_path};
use super::model::{Schema, SchemaFormat, SchemaId, Subject};
use crate::error::{Error, ErrorKind, Result};

/// Puts encoded Protobuf messages into the wire format, with a schema that a registry knows.
///
/// The bytes of a message come from the Protobuf library of your choice.
#[derive(Debug)]
pub struct ProtobufSerializer {
    message: MessageDescriptor,
    /// Zero byte, id and the message's place in its file: the same for each value.
    prefix: Vec<u8>,
    id: SchemaId,
}

impl ProtobufSerializer {
    /// A serializer for messages of type `message` (its full name, as `shop.Click`) of `schema`, under
    /// `subject`. Asks the registry; [`serialize`](Self::serialize) does not.
    ///
    /// # Errors
    /// Of the registry, see [`SchemaRegistry`]; `Schema` when the schema is no Protobuf file, or has no such
    /// message.
    pub async fn new(
        registry: &SchemaRegistry,
        subject: &Subject,
        schema: &Schema,
        message: &str,
        registration: Registration,
    ) -> Result<Self> {
        let (id, schema) = registry.resolve(subject, schema, registration).await?;
        let file = ParsedFile::new(registry, &schema).await?;
        let found = file.pool.get_message_by_name(message);
        let found = found.filter(|found| found.parent_file().name() == FILE);
        let message = found.ok_or_else(|| {
            Error::new(ErrorKind::Schema, format!("look for message {message:?} in the Protobuf schema {id}"))
                .with_hint("name it with its package, as in shop.Click")
        })?;
        let mut prefix = prefix(id).to_vec();
        write_message_path(&place_of(&message), &mut prefix);
        Ok(Self { message, prefix, id })
    }

    /// The encoded message in the wire format. It is taken as it is.
    pub fn serialize(&self, encoded: &[u8]) -> Vec<u8> {
        [&self.prefix, encoded].concat()
    }

    /// A message in Protobuf's JSON mapping, in the wire format.
    ///
    /// # Errors
    /// `Schema` when it does not fit the message's type.
    pub fn serialize_json(&self, json: &str) -> Result<Vec<u8>> {
        let mut text = serde_json::Deserializer::from_str(json);
        let message = DynamicMessage::deserialize(self.message.clone(), &mut text);
        let message = message.and_then(|message| text.end().map(|()| message)).map_err(|cause| {
            let (name, id) = (self.message.full_name(), self.id);
            Error::new(ErrorKind::Schema, format!("write JSON as message {name} of schema {id}"))
                .with_cause(cause)
        })?;
        Ok(self.serialize(&message.encode_to_vec()))
    }
}

/// Reads Protobuf messages out of the wire format: each names its type by the schema that wrote it, which a
/// registry knows.
#[derive(Debug)]
pub struct ProtobufDeserializer {
    registry: SchemaRegistry,
    files: Cache<ParsedFile>,
}

impl ProtobufDeserializer {
    /// A deserializer.
    pub fn new(registry: &SchemaRegistry) -> Self {
        Self { registry: registry.clone(), files: Cache::new() }
    }

    /// The message. Asks the registry when the schema's id is met for the first time.
    ///
    /// # Errors
    /// Of the registry, see [`SchemaRegistry`]; `Schema` when the bytes name no message of the schema.
    pub async fn deserialize<'a>(&self, value: &'a [u8]) -> Result<ProtobufMessage<'a>> {
        let framed = read_frame(value)?;
        let (place, encoded) = read_message_path(framed.payload)?;
        let file = self.file(framed.id).await?;
        let mut messages = file.messages();
        let message = messages.find(|message| place_of(message) == place).ok_or_else(|| {
            let text = format!("look for message {place:?} in the Protobuf schema {}", framed.id);
            Error::new(ErrorKind::Schema, text)
        })?;
        Ok(ProtobufMessage { message, encoded, id: framed.id })
    }

    async fn file(&self, id: SchemaId) -> Result<Arc<ParsedFile>> {
        if let Some(known) = self.files.find(id) {
            return Ok(known);
        }
        let schema = self.registry.schema_of(id, SchemaFormat::Protobuf).await?;
        let file = ParsedFile::new(&self.registry, &schema).await?;
        Ok(self.files.keep(id, file))
    }
}

/// An encoded message and its type.
#[derive(Clone, Debug)]
pub struct ProtobufMessage<'a> {
    message: MessageDescriptor,
    encoded: &'a [u8],
    id: SchemaId,
}

impl<'a> ProtobufMessage<'a> {
    /// The full name of its type, as `shop.Click`.
    pub fn name(&self) -> &str {
        self.message.full_name()
    }

    /// Its bytes, for the Protobuf library of your choice.
    pub fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    /// The message in Protobuf's JSON mapping.
    ///
    /// # Errors
    /// `Schema` when the bytes are not what the type says.
    pub fn to_json(&self) -> Result<String> {
        let attempt = || format!("read message {} of schema {}", self.name(), self.id);
        let message = DynamicMessage::decode(self.message.clone(), self.encoded);
        let message = message.map_err(|cause| Error::new(ErrorKind::Schema, attempt()).with_cause(cause))?;
        serde_json::to_string(&message)
            .map_err(|cause| Error::new(ErrorKind::Schema, attempt()).with_cause(cause))
    }
}

/// The name under which the registry's text is compiled; it knows none.
const FILE: &str = "schema.proto";

#[derive(Debug)]
struct ParsedFile {
    pool: DescriptorPool,
}

impl ParsedFile {
    async fn new(registry: &SchemaRegistry, schema: &Schema) -> Result<Self> {
        let mut sources = registry.references(schema).await?;
        sources.push((FILE.to_owned(), schema.clone()));
        let mut resolver = ChainFileResolver::new();
        resolver.add(Sources(sources));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        compiler.include_imports(true);
        compiler
            .open_file(FILE)
            .map_err(|cause| Error::new(ErrorKind::Schema, "compile a Protobuf schema").with_cause(cause))?;
        Ok(Self { pool: compiler.descriptor_pool() })
    }

    /// The messages of the file itself, nested ones too.
    fn messages(&self) -> impl Iterator<Item = MessageDescriptor> + '_ {
        self.pool.all_messages().filter(|message| message.parent_file().name() == FILE)
    }
}

/// The index of a message among the top ones of its file, then within each that encloses it.
fn place_of(message: &MessageDescriptor) -> Vec<i32> {
    // A descriptor's path alternates field numbers (4: message_type, 3: nested_type) and indexes.
    message.path().iter().skip(1).step_by(2).copied().collect()
}

/// The files that the registry knows; nothing is read from disk.
struct Sources(Vec<(String, Schema)>);

impl FileResolver for Sources {
    fn open_file(&self, name: &str) -> std::result::Result<File, protox::Error> {
        match self.0.iter().find(|(known, _)| known == name) {
            Some((_, schema)) => match descriptor(name, &schema.text) {
                Some(file) => Ok(file),
                None => File::from_source(name, &schema.text),
            },
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// Confluent's clients in Python and C register compiled files, in base64; not every registry makes text of
/// them again.
fn descriptor(name: &str, text: &str) -> Option<File> {
    let compiled = STANDARD.decode(text.trim()).ok()?;
    let mut file = FileDescriptorProto::decode(&*compiled).ok()?;
    file.name = Some(name.to_owned());
    Some(File::from_file_descriptor_proto(file))
}
