use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::config::SchemaRegistryConfig;
use super::model::{
    Compatibility, RegisteredSchema, Schema, SchemaFormat, SchemaId, SchemaReference, Subject, SubjectVersion,
};
use super::transport::{Call, Method, Transport};
use crate::error::{Error, ErrorKind, Result};

/// The most schemas that one may refer to, directly and through others.
const REFERENCES_MAX: usize = 1000;

/// How a serializer comes by its schema's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Registers the schema where the subject does not have it (`auto.register.schemas=true`).
    Register,
    /// The subject must have it already; for producers that may not change schemas.
    MustExist,
    /// Writes with the newest schema of the subject, whatever the given one says
    /// (`use.latest.version=true`).
    UseLatest,
}

/// A client of a schema registry that speaks Confluent's REST API: Confluent's own, Apicurio's (under
/// `/apis/ccompat/v7`), Karapace, Redpanda's.
///
/// Cheap to clone; the last clone's drop ends its thread and connections. Calls work under any async runtime
/// and take at most the configured timeout for each address.
///
/// # Cancel safety
/// Dropping a call's future does not take it back: a registration may still happen.
///
/// # Errors
/// Of every call: `Schema` with the registry's own words when it refuses, `Authentication`, `Tls`, `Network`
/// and `Timeout` when it cannot be asked, `Protocol` when its answer makes no sense.
#[derive(Clone, Debug)]
pub struct SchemaRegistry {
    transport: Arc<Transport>,
    schemas: Arc<Cache<Schema>>,
}

impl SchemaRegistry {
    /// A client; it connects when it is first used.
    ///
    /// # Errors
    /// `Config` for an address that is none, `Network` when its thread cannot be started.
    pub fn new(config: SchemaRegistryConfig) -> Result<Self> {
        let transport = Arc::new(Transport::start(config)?);
        Ok(Self { transport, schemas: Arc::new(Cache::new()) })
    }

    /// Registers a schema as the newest version of `subject`; its id. Where the subject has it already,
    /// nothing changes.
    ///
    /// # Errors
    /// `Schema` when it is not valid, or not compatible with the subject's earlier ones.
    pub async fn register(&self, subject: &Subject, schema: &Schema) -> Result<SchemaId> {
        let path = ["subjects", subject.name(), "versions"];
        let answer: IdAnswer = self.send(Call::to(Method::POST, &path).with(schema)?).await?;
        self.schemas.keep(answer.id, schema.clone());
        Ok(answer.id)
    }

    /// The version under which `subject` has this schema.
    ///
    /// # Errors
    /// `Schema` when it has not.
    pub async fn look_up(&self, subject: &Subject, schema: &Schema) -> Result<RegisteredSchema> {
        self.send(Call::to(Method::POST, &["subjects", subject.name()]).with(schema)?).await
    }

    /// The schema with this id. Asked once, then remembered: an id never changes its meaning.
    ///
    /// # Errors
    /// `Schema` when there is none.
    pub async fn schema(&self, id: SchemaId) -> Result<Arc<Schema>> {
        if let Some(schema) = self.schemas.find(id) {
            return Ok(schema);
        }
        let schema = self.send(Call::to(Method::GET, &["schemas", "ids", &id.to_string()])).await?;
        Ok(self.schemas.keep(id, schema))
    }

    /// A version of a subject.
    ///
    /// # Errors
    /// `Schema` when there is none.
    pub async fn version(&self, subject: &Subject, version: SubjectVersion) -> Result<RegisteredSchema> {
        let version = version.to_string();
        self.send(Call::to(Method::GET, &["subjects", subject.name(), "versions", &version])).await
    }

    /// All subjects.
    ///
    /// # Errors
    /// As of every call.
    pub async fn subjects(&self) -> Result<Vec<String>> {
        self.send(Call::to(Method::GET, &["subjects"])).await
    }

    /// The numbers of a subject's versions.
    ///
    /// # Errors
    /// `Schema` when there is no such subject.
    pub async fn versions(&self, subject: &Subject) -> Result<Vec<i32>> {
        self.send(Call::to(Method::GET, &["subjects", subject.name(), "versions"])).await
    }

    /// Deletes a subject; the numbers of the versions it had. Its schemas can still be read by id.
    ///
    /// # Errors
    /// `Schema` when there is no such subject.
    pub async fn delete_subject(&self, subject: &Subject) -> Result<Vec<i32>> {
        self.send(Call::to(Method::DELETE, &["subjects", subject.name()])).await
    }

    /// Deletes one version of a subject.
    ///
    /// # Errors
    /// `Schema` when there is none, or others refer to it.
    pub async fn delete_version(&self, subject: &Subject, version: i32) -> Result<()> {
        let version = version.to_string();
        let path = ["subjects", subject.name(), "versions", &version];
        self.send::<i32>(Call::to(Method::DELETE, &path)).await.map(drop)
    }

    /// Whether `schema` may become the next version of `subject`.
    ///
    /// # Errors
    /// `Schema` when there is no such subject, or the schema is none.
    pub async fn is_compatible(&self, subject: &Subject, schema: &Schema) -> Result<bool> {
        let path = ["compatibility", "subjects", subject.name(), "versions", "latest"];
        let answer: CompatibleAnswer = self.send(Call::to(Method::POST, &path).with(schema)?).await?;
        Ok(answer.is_compatible)
    }

    /// Which changes of a subject's schema are let in; `None` asks for what holds where a subject has no
    /// setting of its own.
    ///
    /// # Errors
    /// `Schema` when the subject has no setting of its own.
    pub async fn compatibility(&self, subject: Option<&Subject>) -> Result<Compatibility> {
        let answer: LevelAnswer = self.send(Call::to(Method::GET, &config_path(subject))).await?;
        Ok(answer.level)
    }

    /// Sets which changes are let in, for a subject or for all that have no setting of their own.
    ///
    /// # Errors
    /// As of every call.
    pub async fn set_compatibility(&self, subject: Option<&Subject>, level: Compatibility) -> Result<()> {
        let call = Call::to(Method::PUT, &config_path(subject)).with(&Level { compatibility: level })?;
        self.send::<Level>(call).await.map(drop)
    }

    /// The id and schema that a serializer writes with.
    pub(super) async fn resolve(
        &self,
        subject: &Subject,
        schema: &Schema,
        registration: Registration,
    ) -> Result<(SchemaId, Schema)> {
        match registration {
            Registration::Register => Ok((self.register(subject, schema).await?, schema.clone())),
            Registration::MustExist => Ok((self.look_up(subject, schema).await?.id, schema.clone())),
            Registration::UseLatest => {
                let latest = self.version(subject, SubjectVersion::Latest).await?;
                Ok((latest.id, latest.schema))
            }
        }
    }

    /// What a schema refers to, directly and through others, with the names it is referred by.
    pub(super) async fn references(&self, schema: &Schema) -> Result<Vec<(String, Schema)>> {
        let mut found: Vec<(SchemaReference, Schema)> = Vec::new();
        let mut open = schema.references.clone();
        while let Some(reference) = open.pop() {
            if found.iter().any(|(known, _)| *known == reference) {
                continue;
            }
            if found.len() == REFERENCES_MAX {
                let text = format!("a schema refers to more than {REFERENCES_MAX} others");
                return Err(Error::new(ErrorKind::Schema, text));
            }
            let version = SubjectVersion::Number(reference.version);
            let target = self.version(&Subject::named(reference.subject.clone()), version).await?.schema;
            open.extend(target.references.iter().cloned());
            found.push((reference, target));
        }
        Ok(found.into_iter().map(|(reference, schema)| (reference.name, schema)).collect())
    }

    /// The schema with this id, which must be of this format.
    pub(super) async fn schema_of(&self, id: SchemaId, format: SchemaFormat) -> Result<Arc<Schema>> {
        let schema = self.schema(id).await?;
        if schema.format != format {
            let text = format!("schema {id} is {}, not {}", schema.format.name(), format.name());
            return Err(Error::new(ErrorKind::Schema, text));
        }
        Ok(schema)
    }

    async fn send<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        let attempt = call.attempt();
        let body = self.transport.send(call).await?;
        serde_json::from_slice(&body).map_err(|cause| {
            let text = format!("{attempt}: read the registry's answer of {} bytes", body.len());
            Error::new(ErrorKind::Protocol, text).with_cause(cause)
        })
    }
}

fn config_path(subject: Option<&Subject>) -> Vec<&str> {
    ["config"].into_iter().chain(subject.map(Subject::name)).collect()
}

#[derive(Deserialize)]
struct IdAnswer {
    id: SchemaId,
}

#[derive(Deserialize)]
struct CompatibleAnswer {
    is_compatible: bool,
}

#[derive(Deserialize)]
struct LevelAnswer {
    #[serde(rename = "compatibilityLevel")]
    level: Compatibility,
}

#[derive(Serialize, Deserialize)]
struct Level {
    compatibility: Compatibility,
}
