//! The schema registry client on a real registry, beside Confluent's own serializers.

use std::sync::OnceLock;

use kafka_wire::ErrorKind;
use kafka_wire::schema::{
    AvroDeserializer, AvroSerializer, Compatibility, JsonDeserializer, JsonSerializer, ProtobufDeserializer,
    ProtobufSerializer, Registration, Schema, SchemaId, SchemaRegistry, SchemaRegistryConfig, Subject,
    SubjectVersion, read_frame,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidewater_tests::registry::{self, Registry};
use tokio::runtime::Runtime;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Click {
    user: String,
    at: i64,
    tags: Vec<String>,
    price: Option<f64>,
}

fn clicks() -> Vec<Click> {
    let click = |user: &str, at, tags: &[&str], price| Click {
        user: user.into(),
        at,
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        price,
    };
    vec![
        click("ada", 1_700_000_000_000, &["first", "ü"], Some(1.5)),
        click("", 0, &[], None),
        click("grace", 4_102_444_800_000, &["x"; 100], Some(-0.25)),
    ]
}

/// As `schemas.py` has it.
const AVRO: &str = r#"{"type": "record", "name": "Click", "namespace": "shop", "fields": [
    {"name": "user", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "tags", "type": {"type": "array", "items": "string"}},
    {"name": "price", "type": ["null", "double"], "default": null}]}"#;

const JSON_SCHEMA: &str = r#"{"$schema": "http://json-schema.org/draft-07/schema#", "title": "Click",
    "type": "object", "required": ["user", "at"], "properties": {
        "user": {"type": "string"}, "at": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}}, "price": {"type": ["number", "null"]}}}"#;

const PROTOBUF: &str = r#"
    syntax = "proto3";
    package shop;
    message Unused {}
    message Outer { message Click { string user = 1; int64 at = 2; repeated string tags = 3; } }"#;

/// Runs `test` on the registry that the tests of this binary share.
fn on_registry<F: Future>(test: impl FnOnce(SchemaRegistry, String) -> F) {
    static SHARED: OnceLock<Registry> = OnceLock::new();
    if !registry::available() {
        return;
    }
    let url = SHARED.get_or_init(Registry::start).url();
    let client = SchemaRegistry::new(SchemaRegistryConfig::new(&url)).expect("a client");
    Runtime::new().expect("a runtime").block_on(test(client, url));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn lines<T: Serialize>(values: &[T]) -> String {
    values.iter().map(|value| serde_json::to_string(value).expect("JSON") + "\n").collect()
}

/// What Confluent's deserializer makes of these.
fn read_by_confluent<T: for<'a> Deserialize<'a>>(url: &str, format: &str, values: &[Vec<u8>]) -> Vec<T> {
    let input: String = values.iter().map(|value| hex(value) + "\n").collect();
    let printed = registry::confluent(&["read", url, format], &input);
    printed.lines().map(|line| serde_json::from_str(line).expect("what Python read")).collect()
}

fn written_by_confluent<T: Serialize>(url: &str, format: &str, values: &[T]) -> Vec<Vec<u8>> {
    registry::confluent(&["write", url, format], &lines(values)).lines().map(bytes).collect()
}

#[test]
fn avro_goes_both_ways_between_confluents_serializer_and_ours() {
    on_registry(async |registry, url| {
        let subject = Subject::of_value("ours-avro");
        let serializer =
            AvroSerializer::new(&registry, &subject, &Schema::avro(AVRO), Registration::Register)
                .await
                .unwrap();
        let ours: Vec<Vec<u8>> = clicks().iter().map(|click| serializer.serialize(click).unwrap()).collect();
        assert_eq!(read_by_confluent::<Click>(&url, "avro", &ours), clicks());
        let theirs = written_by_confluent(&url, "avro", &clicks());
        let deserializer = AvroDeserializer::new(&registry);
        for (value, click) in theirs.iter().zip(clicks()) {
            assert_eq!(deserializer.deserialize::<Click>(value).await.unwrap(), click);
        }
        // The ids differ, as the texts of the schemas do.
        let payloads = |values: &[Vec<u8>]| {
            values.iter().map(|value| read_frame(value).unwrap().payload.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(payloads(&ours), payloads(&theirs));
    });
}

#[test]
fn json_goes_both_ways_and_what_does_not_fit_is_refused_with_its_place() {
    on_registry(async |registry, url| {
        let subject = Subject::of_value("ours-json");
        let schema = Schema::json(JSON_SCHEMA);
        let serializer =
            JsonSerializer::new(&registry, &subject, &schema, Registration::Register).await.unwrap();
        let ours: Vec<Vec<u8>> = clicks().iter().map(|click| serializer.serialize(click).unwrap()).collect();
        assert_eq!(read_by_confluent::<Click>(&url, "json", &ours), clicks());
        let deserializer = JsonDeserializer::new(&registry);
        for (value, click) in written_by_confluent(&url, "json", &clicks()).iter().zip(clicks()) {
            assert_eq!(deserializer.deserialize::<Click>(value).await.unwrap(), click);
        }
        let secret = json!({"user": "ada", "at": "hunter2"});
        let error = serializer.serialize(&secret).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema);
        let text = error.to_string();
        assert!(text.contains("/at") && text.contains("integer") && !text.contains("hunter2"), "{text}");
        let id = read_frame(&ours[0]).unwrap().id;
        let foreign = [&[0][..], &id.0.to_be_bytes(), br#"{"user": 5, "at": 1}"#].concat();
        let error = deserializer.deserialize::<Value>(&foreign).await.unwrap_err();
        assert!(error.to_string().contains("/user"), "{error}");
    });
}

#[test]
fn protobuf_goes_both_ways_with_the_message_named() {
    on_registry(async |registry, url| {
        let values =
            [json!({"user": "ada", "at": "1700000000000", "tags": ["a", "ü"]}), json!({"user": "grace"})];
        let deserializer = ProtobufDeserializer::new(&registry);
        for (value, expected) in written_by_confluent(&url, "protobuf", &values).iter().zip(&values) {
            let message = deserializer.deserialize(value).await.unwrap();
            assert_eq!(message.name(), "shop.Outer.Click");
            assert_eq!(serde_json::from_str::<Value>(&message.to_json().unwrap()).unwrap(), *expected);
        }
        let subject = Subject::of_value("ours-protobuf");
        let (schema, name) = (Schema::protobuf(PROTOBUF), "shop.Outer.Click");
        let serializer = ProtobufSerializer::new(&registry, &subject, &schema, name, Registration::Register);
        let serializer = serializer.await.unwrap();
        let ours: Vec<Vec<u8>> =
            values.iter().map(|value| serializer.serialize_json(&value.to_string()).unwrap()).collect();
        assert_eq!(read_by_confluent::<Value>(&url, "protobuf", &ours), values);
        assert!(serializer.serialize_json(r#"{"nobody": 1}"#).unwrap_err().to_string().contains("nobody"));
        let wrong =
            ProtobufSerializer::new(&registry, &subject, &schema, "shop.Missing", Registration::Register);
        assert_eq!(wrong.await.unwrap_err().kind(), ErrorKind::Schema);
    });
}

#[test]
fn a_schema_that_refers_to_others_is_read_with_them() {
    on_registry(async |registry, _| {
        let place =
            r#"{"type": "record", "name": "geo.Place", "fields": [{"name": "city", "type": "string"}]}"#;
        let places = Subject::named("geo.Place");
        registry.register(&places, &Schema::avro(place)).await.unwrap();
        let visit = Schema::avro(
            r#"{"type": "record", "name": "Visit", "fields": [{"name": "place", "type": "geo.Place"}]}"#,
        )
        .referring_to("geo.Place", "geo.Place", 1);
        let subject = Subject::of_value("visits");
        let serializer =
            AvroSerializer::new(&registry, &subject, &visit, Registration::Register).await.unwrap();
        let value = json!({"place": {"city": "Turin"}});
        #[derive(Serialize, Deserialize)]
        struct Place {
            city: String,
        }
        #[derive(Serialize, Deserialize)]
        struct Visit {
            place: Place,
        }
        let written = serializer.serialize(&Visit { place: Place { city: "Turin".into() } }).unwrap();
        let read = AvroDeserializer::new(&registry).deserialize::<Value>(&written).await.unwrap();
        assert_eq!(read, value);

        let money = r#"syntax = "proto3"; package shop; message Money { int64 cents = 1; }"#;
        registry.register(&Subject::named("money"), &Schema::protobuf(money)).await.unwrap();
        let order = Schema::protobuf(
            r#"syntax = "proto3"; package shop; import "money.proto"; import "google/protobuf/timestamp.proto";
               message Order { Money price = 1; google.protobuf.Timestamp at = 2; }"#,
        )
        .referring_to("money.proto", "money", 1);
        let subject = Subject::of_value("orders");
        let serializer =
            ProtobufSerializer::new(&registry, &subject, &order, "shop.Order", Registration::Register);
        let json = r#"{"price":{"cents":"5"},"at":"2026-01-02T03:04:05Z"}"#;
        let written = serializer.await.unwrap().serialize_json(json).unwrap();
        let deserializer = ProtobufDeserializer::new(&registry);
        assert_eq!(deserializer.deserialize(&written).await.unwrap().to_json().unwrap(), json);

        let positive = Schema::json(
            r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "integer", "minimum": 1}"#,
        );
        registry.register(&Subject::named("positive"), &positive).await.unwrap();
        let counts = Schema::json(r#"{"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": {"$ref": "https://shop.test/positive.json"}}"#)
            .referring_to("https://shop.test/positive.json", "positive", 1);
        let subject = Subject::of_value("counts");
        let serializer =
            JsonSerializer::new(&registry, &subject, &counts, Registration::Register).await.unwrap();
        serializer.serialize(&[1, 2]).unwrap();
        assert!(serializer.serialize(&[1, 0]).unwrap_err().to_string().contains("/1"));
    });
}

#[test]
fn a_reader_with_a_newer_schema_fills_in_what_the_writer_lacked() {
    on_registry(async |registry, _| {
        let subject = Subject::of_value("evolving");
        let old =
            Schema::avro(r#"{"type": "record", "name": "E", "fields": [{"name": "a", "type": "int"}]}"#);
        let serializer =
            AvroSerializer::new(&registry, &subject, &old, Registration::Register).await.unwrap();
        #[derive(Serialize)]
        struct Old {
            a: i32,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct New {
            a: i64,
            b: String,
        }
        let value = serializer.serialize(&Old { a: 7 }).unwrap();
        let new = r#"{"type": "record", "name": "E", "fields": [
            {"name": "a", "type": "long"}, {"name": "b", "type": "string", "default": "none"}]}"#;
        let deserializer = AvroDeserializer::new(&registry).read_as(new).unwrap();
        let read: New = deserializer.deserialize(&value).await.unwrap();
        assert_eq!(read, New { a: 7, b: "none".into() });
    });
}

#[test]
fn subjects_versions_and_rules_are_kept_by_the_registry() {
    on_registry(async |registry, _| {
        let subject = Subject::of_key("with / odd ? name");
        let number =
            Schema::avro(r#"{"type": "record", "name": "N", "fields": [{"name": "n", "type": "int"}]}"#);
        let missing = registry.versions(&subject).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Schema);
        assert!(missing.to_string().contains("40401"), "{missing}");
        let must = AvroSerializer::new(&registry, &subject, &number, Registration::MustExist).await;
        assert_eq!(must.unwrap_err().kind(), ErrorKind::Schema);
        let id = registry.register(&subject, &number).await.unwrap();
        assert_eq!(registry.register(&subject, &number).await.unwrap(), id);
        assert_eq!(registry.look_up(&subject, &number).await.unwrap().version, 1);
        assert!(registry.subjects().await.unwrap().iter().any(|name| name == subject.name()));
        registry.set_compatibility(Some(&subject), Compatibility::Backward).await.unwrap();
        assert_eq!(registry.compatibility(Some(&subject)).await.unwrap(), Compatibility::Backward);
        let other =
            Schema::avro(r#"{"type": "record", "name": "N", "fields": [{"name": "m", "type": "int"}]}"#);
        assert!(!registry.is_compatible(&subject, &other).await.unwrap());
        assert_eq!(registry.register(&subject, &other).await.unwrap_err().kind(), ErrorKind::Schema);
        let wider =
            Schema::avro(r#"{"type": "record", "name": "N", "fields": [{"name": "n", "type": "long"}]}"#);
        assert!(registry.is_compatible(&subject, &wider).await.unwrap());
        let newer = registry.register(&subject, &wider).await.unwrap();
        let latest = registry.version(&subject, SubjectVersion::Latest).await.unwrap();
        assert_eq!((latest.id, latest.version), (newer, 2));
        assert_eq!(registry.versions(&subject).await.unwrap(), [1, 2]);
        assert_eq!(registry.schema(id).await.unwrap().references, []);
        registry.delete_version(&subject, 1).await.unwrap();
        assert_eq!(registry.delete_subject(&subject).await.unwrap(), [2]);
        let unknown = registry.schema(SchemaId(1 << 30)).await.unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Schema);
        let plain = AvroDeserializer::new(&registry).deserialize::<Value>(b"{\"no\": 1}").await.unwrap_err();
        assert!(plain.to_string().contains("0x7b"), "{plain}");
    });
}

#[test]
fn a_registry_that_is_away_is_said_so_and_another_address_serves() {
    on_registry(async |_, url| {
        let nobody = "http://127.0.0.1:1";
        let alone = SchemaRegistry::new(SchemaRegistryConfig::new(nobody)).unwrap();
        let error = alone.subjects().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network);
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
        let mut config = SchemaRegistryConfig::new(nobody);
        config.urls.push(url);
        SchemaRegistry::new(config).unwrap().subjects().await.unwrap();
    });
}
