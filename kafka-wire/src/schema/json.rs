use std::fmt;
use std::sync::Arc;

use jsonschema::{Registry, Validator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::cache::Cache;
use super::client::{Registration, SchemaRegistry};
use super::framing::{prefix, read_frame};
use super::model::{Schema, SchemaFormat, SchemaId, Subject};
use crate::error::{Error, ErrorKind, Result};

/// Writes values in JSON, checked against a JSON Schema that a registry knows.
#[derive(Debug)]
pub struct JsonSerializer {
    id: SchemaId,
    check: Check,
}

impl JsonSerializer {
    /// A serializer for `schema`, under `subject`. Asks the registry; [`serialize`](Self::serialize) does not.
    ///
    /// # Errors
    /// Of the registry, see [`SchemaRegistry`]; `Schema` when the schema is no JSON Schema.
    pub async fn new(
        registry: &SchemaRegistry,
        subject: &Subject,
        schema: &Schema,
        registration: Registration,
    ) -> Result<Self> {
        let (id, schema) = registry.resolve(subject, schema, registration).await?;
        Ok(Self { id, check: Check::new(registry, &schema).await? })
    }

    /// The value in the wire format.
    ///
    /// # Errors
    /// `Schema` when it does not fit the schema: then with the place in the value, and why.
    pub fn serialize<T: Serialize>(&self, value: &T) -> Result<Vec<u8>> {
        let attempt = || format!("write a value in JSON by schema {}", self.id);
        let refused = |cause| Error::new(ErrorKind::Schema, attempt()).with_cause(cause);
        let value = serde_json::to_value(value).map_err(refused)?;
        self.check.validate(&value, attempt)?;
        let mut written = prefix(self.id).to_vec();
        serde_json::to_writer(&mut written, &value).map_err(refused)?;
        Ok(written)
    }
}

/// Reads values in JSON, each checked against the schema that wrote it, which a registry knows.
#[derive(Debug)]
pub struct JsonDeserializer {
    registry: SchemaRegistry,
    checks: Cache<Check>,
}

impl JsonDeserializer {
    /// A deserializer.
    pub fn new(registry: &SchemaRegistry) -> Self {
        Self { registry: registry.clone(), checks: Cache::new() }
    }

    /// The value. Asks the registry when the schema's id is met for the first time.
    ///
    /// # Errors
    /// Of the registry, see [`SchemaRegistry`]; `Schema` when the bytes are not what the schema says, or not
    /// what `T` wants.
    pub async fn deserialize<T: DeserializeOwned>(&self, value: &[u8]) -> Result<T> {
        let framed = read_frame(value)?;
        let attempt = || format!("read a value in JSON by schema {}", framed.id);
        let refused = |cause| Error::new(ErrorKind::Schema, attempt()).with_cause(cause);
        let value: Value = serde_json::from_slice(framed.payload).map_err(refused)?;
        self.check(framed.id).await?.validate(&value, attempt)?;
        serde_json::from_value(value).map_err(refused)
    }

    async fn check(&self, id: SchemaId) -> Result<Arc<Check>> {
        if let Some(known) = self.checks.find(id) {
            return Ok(known);
        }
        let schema = self.registry.schema_of(id, SchemaFormat::Json).await?;
        let check = Check::new(&self.registry, &schema).await?;
        Ok(self.checks.keep(id, check))
    }
}

struct Check(Validator);

impl Check {
    /// Only the registry is asked for what the schema refers to: a schema is somebody else's text, and must
    /// not make this process open files or addresses.
    async fn new(registry: &SchemaRegistry, schema: &Schema) -> Result<Self> {
        let wrong = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Schema, format!("read a JSON Schema: {cause}"))
        };
        let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|cause| wrong(cause.into()));
        let mut known = Registry::new();
        for (name, reference) in registry.references(schema).await? {
            known = known.add(name, parse(&reference.text)?).map_err(|cause| wrong(cause.into()))?;
        }
        let known = known.prepare().map_err(|cause| wrong(cause.into()))?;
        let validator = jsonschema::options().with_registry(&known).build(&parse(&schema.text)?);
        validator.map(Self).map_err(|cause| wrong(cause.to_string().into()))
    }

    fn validate(&self, value: &Value, attempt: impl Fn() -> String) -> Result<()> {
        self.0.validate(value).map_err(|wrong| {
            let place = match wrong.instance_path().as_str() {
                "" => "as a whole".to_owned(),
                path => format!("at {path}"),
            };
            // The value itself may be a secret.
            Error::new(ErrorKind::Schema, format!("{}: {place}: {}", attempt(), wrong.masked()))
        })
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check")
    }
}
