"""librdkafka, by Confluent's client for Python, as an independent client; the commands are those of ../go/main.go."""

import json
import os
import sys
import threading
import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (
    AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient, AlterConfigOpType, ConfigEntry,
    ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourcePatternType, ResourceType, ScramCredentialInfo,
    ScramMechanism, UserScramCredentialDeletion, UserScramCredentialUpsertion,
)

stopped = threading.Event()


def show(**line):
    print(json.dumps(line), flush=True)


def text(value):
    return None if value is None else value.decode()


def show_record(record):
    headers = [[key, text(value)] for key, value in record.headers() or []]
    show(partition=record.partition(), offset=record.offset(), timestamp=record.timestamp()[1], key=text(record.key()),
         value=text(record.value()), headers=headers)


def partitions(client, topic):
    return len(client.list_topics(topic, timeout=30).topics[topic].partitions)


def until(wanted, ask):
    """Asks until the answer is `wanted`, as a broker learns a moment later what its controller has acknowledged; the
    last answer or failure, after a minute."""
    end = time.monotonic() + 60
    while True:
        try:
            answer = ask()
            if answer == wanted or time.monotonic() > end:
                return answer
        except (KafkaException, LookupError):
            if time.monotonic() > end:
                raise
        time.sleep(0.02)


def checked(record):
    if record.error():
        raise KafkaException(record.error())
    return record


def record(i, count):
    headers = [("twice", b"a"), ("null", None), ("twice", b"b")] if i % 5 == 0 else []
    return dict(partition=i % count, timestamp=1700000000000 + i, key=f"key-{i}" if i % 7 else None,
                value=f"value-{i}" if i % 11 else None, headers=headers)


def told(error, sent):
    if error is not None:
        raise KafkaException(error)
    show(partition=sent.partition(), offset=sent.offset())


def produce(bootstrap, topic, n, codec="none"):
    config = {"bootstrap.servers": bootstrap, "compression.type": codec, "enable.idempotence": True}
    producer = Producer(config)
    count = partitions(producer, topic)
    for i in range(int(n)):
        producer.produce(topic, on_delivery=told, **record(i, count))
    producer.flush()


def consumer(bootstrap, group, **more):
    config = {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
              "enable.auto.commit": False, "isolation.level": "read_committed", "fetch.wait.max.ms": 100}
    return Consumer(config | {name.replace("_", "."): value for name, value in more.items()})


def consume(bootstrap, topic, n):
    client = consumer(bootstrap, "no group")
    client.assign([TopicPartition(topic, partition, 0) for partition in range(partitions(client, topic))])
    seen = 0
    while seen < int(n):
        for read in client.consume(100, timeout=0.1):
            show_record(checked(read))
            seen += 1
    client.close()


def group(bootstrap, group_id, topic, protocol="classic", assignor=None):
    if protocol == "consumer":
        more = {"group_protocol": "consumer"} | ({"group_remote_assignor": assignor} if assignor else {})
    else:
        more = {"heartbeat_interval_ms": 100, "partition_assignment_strategy": assignor or "range,roundrobin"}
    client = consumer(bootstrap, group_id, **more)
    client.subscribe([topic], on_assign=lambda _, given: show(assigned=len(given)),
                     on_revoke=lambda _, taken: show(revoked=len(taken)), on_lost=lambda _, taken: show(lost=len(taken)))
    while not stopped.is_set():
        for read in client.consume(100, timeout=0.1):
            show_record(checked(read))
        commit(client)
    client.close()


def commit(client):
    passing = (KafkaError._NO_OFFSET, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION,
               KafkaError.UNKNOWN_MEMBER_ID, KafkaError.STALE_MEMBER_EPOCH)
    try:
        client.commit(asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() not in passing:
            raise


def transactional(bootstrap, topic):
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"librdkafka-{topic}"})
    producer.init_transactions()
    return producer


def txn(bootstrap, topic, n):
    producer = transactional(bootstrap, topic)
    count = partitions(producer, topic)
    for first in range(0, int(n), 10):
        producer.begin_transaction()
        for i in range(first, first + 10):
            producer.produce(topic, **record(i, count))
        producer.flush()
        committed = first // 10 % 3 != 2
        producer.commit_transaction() if committed else producer.abort_transaction()
        show(committed=committed)


def copy(bootstrap, group_id, source, target, n):
    producer = transactional(bootstrap, target)
    client = consumer(bootstrap, group_id, heartbeat_interval_ms=100)
    client.subscribe([source])
    copied = turn = 0
    while copied < int(n):
        records = [checked(read) for read in client.consume(10, timeout=0.1)]
        if not records:
            continue
        committed = turn % 3 != 2
        turn += 1
        producer.begin_transaction()
        for it in records:
            producer.produce(target, partition=it.partition(), timestamp=it.timestamp()[1], key=it.key(),
                             value=it.value(), headers=it.headers())
        producer.send_offsets_to_transaction(client.position(client.assignment()), client.consumer_group_metadata())
        if committed:
            producer.commit_transaction()
            copied += len(records)
        else:
            producer.flush()
            producer.abort_transaction()
            for partition in {it.partition() for it in records}:
                first = next(it.offset() for it in records if it.partition() == partition)
                client.seek(TopicPartition(source, partition, first))
        show(committed=committed)
    client.close()


def only(futures):
    """What became of the one thing that was asked for."""
    (future,) = futures.values()
    return future.result()


def admin(bootstrap, prefix):
    client = AdminClient({"bootstrap.servers": bootstrap})
    topic = f"{prefix}-topic"
    wanted = NewTopic(topic, 3, 1, config={"retention.ms": "60000"})
    only(client.create_topics([wanted]))
    show(created=until(3, lambda: partitions(client, topic)))
    try:
        only(client.create_topics([wanted]))
    except KafkaException as error:
        show(again=error.args[0].name())
    only(client.create_partitions([NewPartitions(topic, 5)]))
    show(partitions=until(5, lambda: partitions(client, topic)))
    changed = ConfigEntry("retention.ms", "70000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[changed])
    only(client.incremental_alter_configs([resource]))

    def configured():
        return only(client.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]))["retention.ms"].value

    show(**{"retention.ms": until("70000", configured)})
    group_id = f"{prefix}-group"

    def committed():
        at = [TopicPartition(topic, 1, 7)]
        only(client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group_id, at)]))
        found = only(client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group_id)]))
        return found.topic_partitions[0].offset

    show(committed=until(7, committed))
    show(listed=group_id in [it.group_id for it in client.list_consumer_groups().result().valid])
    found = only(client.describe_consumer_groups([group_id]))
    show(described=found.state.name.capitalize(), members=len(found.members))
    end = only(client.list_offsets({TopicPartition(topic, 4): OffsetSpec.latest()},
                                   isolation_level=IsolationLevel.READ_UNCOMMITTED))
    show(end=end.offset)
    only(client.delete_consumer_groups([group_id]))
    only(client.delete_topics([topic]))
    show(deleted=True)


def rights(bootstrap, prefix):
    client = AdminClient({"bootstrap.servers": bootstrap})
    topic, user = (ResourceType.TOPIC, prefix), f"User:{prefix}"
    may = (*topic, ResourcePatternType.LITERAL, user, "*", AclOperation.READ, AclPermissionType.ALLOW)
    may_not = (*topic, ResourcePatternType.PREFIXED, user, "*", AclOperation.WRITE, AclPermissionType.DENY)
    for future in client.create_acls([AclBinding(*may), AclBinding(*may_not)]).values():
        future.result()

    def acls():
        of_user = AclBindingFilter(ResourceType.ANY, None, ResourcePatternType.ANY, user, None, AclOperation.ANY,
                                   AclPermissionType.ANY)
        found = client.describe_acls(of_user).result()
        return sorted(f"{it.permission_type.name} {it.operation.name} {it.resource_pattern_type.name}" for it in found)

    show(acls=until(["ALLOW READ LITERAL", "DENY WRITE PREFIXED"], acls))
    show(revoked=len(only(client.delete_acls([AclBindingFilter(*may_not)]))))
    show(acls=until(["ALLOW READ LITERAL"], acls))
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    only(client.alter_user_scram_credentials([UserScramCredentialUpsertion(prefix, info, b"secret")]))

    def users():
        found = client.describe_user_scram_credentials().result().get(prefix)
        return [f"{it.mechanism.name.replace('_', '-')} {it.iterations}" for it in found.scram_credential_infos] if found else []

    show(users=until(["SCRAM-SHA-256 4096"], users))
    only(client.alter_user_scram_credentials([UserScramCredentialDeletion(prefix, ScramMechanism.SCRAM_SHA_256)]))
    show(users=until([], users))


COMMANDS = {it.__name__: it for it in (produce, consume, group, txn, copy, admin, rights)}


def run(command, *words):
    try:
        COMMANDS[command](*words)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    show(done=True)


for line in sys.stdin:
    if line.strip() == "stop":
        stopped.set()
    else:
        stopped.clear()
        threading.Thread(target=run, args=line.split(), daemon=True).start()
os._exit(0)
