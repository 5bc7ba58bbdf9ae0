import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.*;

/**
 * Kafka's own client; the commands are those of ../go/main.go, and:
 *   group BOOTSTRAP GROUP TOPIC [classic|consumer] [ASSIGNOR]
 *   share BOOTSTRAP GROUP TOPIC [accept|release|reject]   a share consumer from the earliest record on, until its input ends
 */
class Foreign {
    public static void main(String[] args) throws Exception {
        String bootstrap = args[1];
        switch (args[0]) {
            case "produce" -> produce(bootstrap, args[2], Integer.parseInt(args[3]), args.length > 4 ? args[4] : "none");
            case "consume" -> consume(bootstrap, args[2], Integer.parseInt(args[3]));
            case "group" -> group(bootstrap, args[2], args[3], args.length > 4 ? args[4] : "classic", args.length > 5 ? args[5] : null);
            case "share" -> share(bootstrap, args[2], args[3], args.length > 4 ? args[4] : "accept");
            case "txn" -> txn(bootstrap, args[2], Integer.parseInt(args[3]));
            case "admin" -> admin(bootstrap, args[2]);
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    static Properties properties(String bootstrap, Object... more) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        for (int i = 0; i < more.length; i += 2) properties.put(more[i], more[i + 1]);
        return properties;
    }

    static KafkaProducer<byte[], byte[]> producer(Properties properties) {
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static ProducerRecord<byte[], byte[]> record(String topic, int i, int count) {
        byte[] key = i % 7 == 0 ? null : bytes("key-" + i);
        byte[] value = i % 11 == 0 ? null : bytes("value-" + i);
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, i % count, 1700000000000L + i, key, value);
        if (i % 5 == 0) record.headers().add("twice", bytes("a")).add("null", null).add("twice", bytes("b"));
        return record;
    }

    static void produce(String bootstrap, String topic, int n, String codec) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(properties(bootstrap, "compression.type", codec, "linger.ms", "5"))) {
            int count = producer.partitionsFor(topic).size();
            for (int i = 0; i < n; i++) {
                producer.send(record(topic, i, count), (sent, error) -> {
                    if (error != null) fail(error);
                    show("partition", sent.partition(), "offset", sent.offset());
                });
            }
        }
    }

    static void txn(String bootstrap, String topic, int n) {
        try (KafkaProducer<byte[], byte[]> producer = producer(properties(bootstrap, "transactional.id", "java-" + topic))) {
            producer.initTransactions();
            int count = producer.partitionsFor(topic).size();
            for (int from = 0; from < n; from += 10) {
                producer.beginTransaction();
                for (int i = from; i < from + 10; i++) producer.send(record(topic, i, count));
                producer.flush();
                boolean committed = from / 10 % 3 != 2;
                if (committed) producer.commitTransaction(); else producer.abortTransaction();
                show("committed", committed);
            }
        }
    }

    static KafkaConsumer<byte[], byte[]> consumer(Properties properties) {
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static void consume(String bootstrap, String topic, int n) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(properties(bootstrap, "isolation.level", "read_committed"))) {
            List<TopicPartition> partitions = new ArrayList<>();
            consumer.partitionsFor(topic).forEach(it -> partitions.add(new TopicPartition(topic, it.partition())));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            for (int seen = 0; seen < n; ) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    show(record);
                    seen++;
                }
            }
        }
    }

    static void group(String bootstrap, String group, String topic, String protocol, String assignor) throws Exception {
        Properties properties = properties(bootstrap, "group.id", group, "auto.offset.reset", "earliest",
            "enable.auto.commit", "false", "group.protocol", protocol);
        if (protocol.equals("classic")) {
            properties.put("heartbeat.interval.ms", "100");
            if (assignor != null) properties.put("partition.assignment.strategy", assignor);
        } else if (assignor != null) {
            properties.put("group.remote.assignor", assignor);
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(properties)) {
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    show("assigned", partitions.size());
                }

                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    show("revoked", partitions.size());
                }

                public void onPartitionsLost(Collection<TopicPartition> partitions) {
                    show("lost", partitions.size());
                }
            });
            Thread input = untilInputEnds();
            while (input.isAlive()) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) show(record);
                try {
                    consumer.commitSync();
                } catch (CommitFailedException | org.apache.kafka.common.errors.RebalanceInProgressException error) {
                    show("refused", 1);
                }
            }
        }
    }

    static void share(String bootstrap, String group, String topic, String acknowledgement) throws Exception {
        try (Admin admin = Admin.create(properties(bootstrap))) {
            AlterConfigOp earliest = new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET);
            admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, group), List.of(earliest))).all().get();
        }
        Properties properties = properties(bootstrap, "group.id", group, "share.acknowledgement.mode", "explicit");
        try (KafkaShareConsumer<byte[], byte[]> consumer = new KafkaShareConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            Thread input = untilInputEnds();
            while (input.isAlive()) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    consumer.acknowledge(record, AcknowledgeType.valueOf(acknowledgement.toUpperCase()));
                    show("partition", record.partition(), "offset", record.offset(), "deliveries", record.deliveryCount().orElse((short) -1));
                }
                consumer.commitSync().forEach((partition, error) -> error.ifPresent(Foreign::fail));
            }
        }
    }

    static void admin(String bootstrap, String prefix) throws Exception {
        try (Admin admin = Admin.create(properties(bootstrap))) {
            String topic = prefix + "-topic";
            NewTopic wanted = new NewTopic(topic, 3, (short) 1).configs(Map.of("retention.ms", "60000"));
            show("created", admin.createTopics(List.of(wanted)).numPartitions(topic).get());
            try {
                admin.createTopics(List.of(wanted)).all().get();
            } catch (ExecutionException error) {
                show("again", error.getCause().getClass().getSimpleName());
            }
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
            show("partitions", admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size());
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            AlterConfigOp set = new AlterConfigOp(new ConfigEntry("retention.ms", "70000"), AlterConfigOp.OpType.SET);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(set))).all().get();
            show("retention.ms", admin.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms").value());
            String group = prefix + "-group";
            TopicPartition partition = new TopicPartition(topic, 1);
            admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(7))).all().get();
            show("committed", admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(partition).offset());
            show("listed", admin.listGroups().all().get().stream().anyMatch(it -> it.groupId().equals(group)));
            var described = admin.describeClassicGroups(List.of(group)).all().get().get(group);
            show("described", described.state().toString(), "members", described.members().size());
            admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all().get();
            admin.deleteConsumerGroups(List.of(group)).all().get();
            admin.deleteTopics(List.of(topic)).all().get();
            show("deleted", true);
        }
    }

    static Thread untilInputEnds() {
        Thread input = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (java.io.IOException error) {
                fail(error);
            }
        });
        input.setDaemon(true);
        input.start();
        return input;
    }

    static void show(ConsumerRecord<byte[], byte[]> record) {
        List<Object> headers = new ArrayList<>();
        for (Header header : record.headers()) headers.add(Arrays.asList(header.key(), text(header.value())));
        show("partition", record.partition(), "offset", record.offset(), "timestamp", record.timestamp(),
            "key", text(record.key()), "value", text(record.value()), "headers", headers);
    }

    static synchronized void show(Object... fields) {
        StringJoiner line = new StringJoiner(",", "{", "}");
        for (int i = 0; i < fields.length; i += 2) line.add(json(fields[i]) + ":" + json(fields[i + 1]));
        System.out.println(line);
    }

    static String json(Object value) {
        if (value instanceof List<?> list) {
            StringJoiner items = new StringJoiner(",", "[", "]");
            list.forEach(item -> items.add(json(item)));
            return items.toString();
        }
        return value instanceof String text ? '"' + text.replace("\"", "\\\"") + '"' : String.valueOf(value);
    }

    static void fail(Throwable error) {
        error.printStackTrace();
        Runtime.getRuntime().halt(1);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }
}
