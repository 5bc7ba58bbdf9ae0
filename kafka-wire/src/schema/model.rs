use std::fmt;

use serde::{Deserialize, Serialize};

/// The language of a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SchemaFormat {
    /// Apache Avro; what the registry means when it says nothing.
    #[default]
    Avro,
    /// JSON Schema.
    Json,
    /// Protocol Buffers: a `.proto` file.
    Protobuf,
}

impl SchemaFormat {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Avro => "Avro",
            Self::Json => "JSON",
            Self::Protobuf => "Protobuf",
        }
    }
}

/// The number under which a registry knows a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SchemaId(pub i32);

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Another schema that a schema names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SchemaReference {
    /// As the schema names it: a type's full name in Avro, a `$ref` in JSON Schema, an imported file in
    /// Protobuf.
    pub name: String,
    /// Where the registry has it.
    pub subject: String,
    /// In which version of that subject.
    pub version: i32,
}

/// A schema: its language, its text, and what it refers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Schema {
    /// The language; Avro where the registry says nothing.
    #[serde(rename = "schemaType", default)]
    pub format: SchemaFormat,
    /// The schema itself.
    #[serde(rename = "schema")]
    pub text: String,
    /// What it refers to.
    #[serde(default)]
    pub references: Vec<SchemaReference>,
}

impl Schema {
    /// A schema in Avro.
    pub fn avro(text: impl Into<String>) -> Self {
        Self::new(SchemaFormat::Avro, text)
    }

    /// A JSON Schema.
    pub fn json(text: impl Into<String>) -> Self {
        Self::new(SchemaFormat::Json, text)
    }

    /// The text of a `.proto` file.
    pub fn protobuf(text: impl Into<String>) -> Self {
        Self::new(SchemaFormat::Protobuf, text)
    }

    fn new(format: SchemaFormat, text: impl Into<String>) -> Self {
        Self { format, text: text.into(), references: Vec::new() }
    }

    /// Adds a schema that this one names.
    #[must_use]
    pub fn referring_to(mut self, name: impl Into<String>, subject: impl Into<String>, version: i32) -> Self {
        self.references.push(SchemaReference { name: name.into(), subject: subject.into(), version });
        self
    }
}

/// A schema as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RegisteredSchema {
    /// Its number.
    pub id: SchemaId,
    /// Its subject.
    pub subject: String,
    /// Its version within the subject.
    pub version: i32,
    /// The schema.
    #[serde(flatten)]
    pub schema: Schema,
}

/// Under which name a schema's versions are kept: the strategies of Confluent's serializers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject(String);

impl Subject {
    /// A subject by its name.
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Of a topic's values: `TOPIC-value` (`TopicNameStrategy`, the default everywhere).
    pub fn of_value(topic: &str) -> Self {
        Self(format!("{topic}-value"))
    }

    /// Of a topic's keys: `TOPIC-key`.
    pub fn of_key(topic: &str) -> Self {
        Self(format!("{topic}-key"))
    }

    /// Of a record type in whatever topic: its full name (`RecordNameStrategy`).
    pub fn of_record(full_name: &str) -> Self {
        Self(full_name.to_owned())
    }

    /// Of a record type in one topic: `TOPIC-NAME` (`TopicRecordNameStrategy`).
    pub fn of_record_in(topic: &str, full_name: &str) -> Self {
        Self(format!("{topic}-{full_name}"))
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which version of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectVersion {
    /// The newest.
    Latest,
    /// This one, counted from 1.
    Number(i32),
}

impl fmt::Display for SubjectVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// Which changes of a schema a registry lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Compatibility {
    /// Any.
    None,
    /// Readers of the new schema can read what the last one wrote; Confluent's default.
    Backward,
    /// As `Backward`, with all earlier ones.
    BackwardTransitive,
    /// Readers of the last schema can read what the new one writes.
    Forward,
    /// As `Forward`, with all earlier ones.
    ForwardTransitive,
    /// `Backward` and `Forward`.
    Full,
    /// As `Full`, with all earlier ones.
    FullTransitive,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_named_as_confluents_strategies_name_them() {
        assert_eq!(Subject::of_value("clicks").name(), "clicks-value");
        assert_eq!(Subject::of_key("clicks").name(), "clicks-key");
        assert_eq!(Subject::of_record("shop.Click").name(), "shop.Click");
        assert_eq!(Subject::of_record_in("clicks", "shop.Click").name(), "clicks-shop.Click");
    }

    #[test]
    fn an_answer_without_a_type_is_avro_and_compatibility_is_spelled_as_the_registry_does() {
        let answer = r#"{"id": 7, "subject": "s", "version": 2, "schema": "\"string\""}"#;
        let registered: RegisteredSchema = serde_json::from_str(answer).unwrap();
        assert_eq!(registered.schema, Schema::avro("\"string\""));
        assert_eq!((registered.id, registered.version), (SchemaId(7), 2));
        let spelled = serde_json::to_string(&Compatibility::FullTransitive).unwrap();
        assert_eq!(spelled, "\"FULL_TRANSITIVE\"");
    }
}
