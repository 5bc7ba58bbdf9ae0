"""Confluent's own serializers: `write URL FORMAT` prints the values of standard input (JSON, one a line) in the wire
format, in hex; `read URL FORMAT` does the reverse. The subject is `python-FORMAT-value`, the schemas are below."""

import json
import sys

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

AVRO = json.dumps({
    "type": "record", "name": "Click", "namespace": "shop",
    "fields": [
        {"name": "user", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "price", "type": ["null", "double"], "default": None},
    ],
})
JSON_SCHEMA = json.dumps({
    "$schema": "http://json-schema.org/draft-07/schema#", "title": "Click", "type": "object",
    "properties": {"user": {"type": "string"}, "at": {"type": "integer"},
                   "tags": {"type": "array", "items": {"type": "string"}}, "price": {"type": ["number", "null"]}},
    "required": ["user", "at"],
})


def protobuf_message():
    """shop.Outer.Click, the second message's nested one: its place in the file is [1, 0]."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="click.proto", package="shop", syntax="proto3")
    file.message_type.add(name="Unused")
    click = file.message_type.add(name="Outer").nested_type.add(name="Click")
    click.field.add(name="user", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    click.field.add(name="at", number=2, type=kinds.TYPE_INT64, label=kinds.LABEL_OPTIONAL)
    click.field.add(name="tags", number=3, type=kinds.TYPE_STRING, label=kinds.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Outer.Click"))


def main():
    action, url, kind = sys.argv[1:4]
    client = SchemaRegistryClient({"url": url})
    context = SerializationContext(f"python-{kind}", MessageField.VALUE)
    plain = lambda value, _: value
    if kind == "protobuf":
        message = protobuf_message()
        settings = {"use.deprecated.format": False}
        writer = ProtobufSerializer(message, client, settings) if action == "write" else None
        reader = ProtobufDeserializer(message, settings)
        from_json = lambda text: json_format.Parse(text, message())
        to_json = lambda value: json_format.MessageToDict(value)
    elif kind == "avro":
        writer, reader = AvroSerializer(client, AVRO, plain), AvroDeserializer(client, return_record_name=False)
        from_json, to_json = json.loads, lambda value: {**value, "at": round(value["at"].timestamp() * 1000)}
    else:
        writer, reader = JSONSerializer(JSON_SCHEMA, client, plain), JSONDeserializer(JSON_SCHEMA, plain, client)
        from_json, to_json = json.loads, lambda value: value
    for line in sys.stdin.read().splitlines():
        if action == "write":
            print(writer(from_json(line), context).hex())
        else:
            print(json.dumps(to_json(reader(bytes.fromhex(line), context)), sort_keys=True))


main()
