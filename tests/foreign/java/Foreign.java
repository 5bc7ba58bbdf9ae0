import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.resource.*;
import org.apache.kafka.common.serialization.*;

/**
 * Kafka's own client; the commands are those of ../go/main.go, and:
 *   share BOOTSTRAP GROUP TOPIC [accept|release|reject]   a share consumer from the earliest record on, until "stop"
 */
class Foreign {
    static final BlockingQueue<String> commands = new LinkedBlockingQueue<>();
    static volatile boolean stopped;

    public static void main(String[] args) throws Exception {
        Thread input = new Thread(Foreign::listen);
        input.setDaemon(true);
        input.start();
        try {
            while (true) {
                run(commands.take().split(" "));
                show("done", true);
            }
        } catch (Throwable error) {
            fail(error);
        }
    }

    static void listen() {
        new BufferedReader(new InputStreamReader(System.in)).lines().forEach(line -> {
            stopped = line.equals("stop");
            if (!stopped) commands.add(line);
        });
        Runtime.getRuntime().halt(0);
    }

    static void run(String[] words) throws Exception {
        String bootstrap = words[1];
        switch (words[0]) {
            case "produce" -> produce(bootstrap, words[2], Integer.parseInt(words[3]), words.length > 4 ? words[4] : "none");
            case "consume" -> consume(bootstrap, words[2], Integer.parseInt(words[3]));
            case "group" -> group(bootstrap, words[2], words[3], words.length > 4 ? words[4] : "classic", words.length > 5 ? words[5] : null);
            case "share" -> share(bootstrap, words[2], words[3], words.length > 4 ? words[4] : "accept");
            case "txn" -> txn(bootstrap, words[2], Integer.parseInt(words[3]));
            case "copy" -> copy(bootstrap, words[2], words[3], words[4], Integer.parseInt(words[5]));
            case "admin" -> admin(bootstrap, words[2]);
            case "rights" -> rights(bootstrap, words[2]);
            default -> throw new IllegalArgumentException(words[0]);
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

    static void copy(String bootstrap, String group, String from, String to, int n) {
        Properties reading = properties(bootstrap, "group.id", group, "auto.offset.reset", "earliest", "enable.auto.commit",
            "false", "isolation.level", "read_committed", "max.poll.records", "10");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(reading);
            KafkaProducer<byte[], byte[]> producer = producer(properties(bootstrap, "transactional.id", "java-" + to))) {
            producer.initTransactions();
            consumer.subscribe(List.of(from));
            for (int copied = 0, turn = 0; copied < n; ) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
                if (records.isEmpty()) continue;
                producer.beginTransaction();
                for (ConsumerRecord<byte[], byte[]> it : records)
                    producer.send(new ProducerRecord<>(to, it.partition(), it.timestamp(), it.key(), it.value(), it.headers()));
                producer.sendOffsetsToTransaction(records.nextOffsets(), consumer.groupMetadata());
                boolean committed = turn++ % 3 != 2;
                if (committed) {
                    producer.commitTransaction();
                    copied += records.count();
                } else {
                    producer.abortTransaction();
                    records.partitions().forEach(it -> consumer.seek(it, records.records(it).get(0).offset()));
                }
                show("committed", committed);
            }
        }
    }

    static final Map<String, String> assignors = Map.of("range", RangeAssignor.class.getName(), "roundrobin",
        RoundRobinAssignor.class.getName(), "cooperative-sticky", CooperativeStickyAssignor.class.getName());

    static void group(String bootstrap, String group, String topic, String protocol, String assignor) throws Exception {
        Properties properties = properties(bootstrap, "group.id", group, "auto.offset.reset", "earliest",
            "enable.auto.commit", "false", "group.protocol", protocol);
        if (protocol.equals("classic")) {
            properties.put("heartbeat.interval.ms", "100");
            if (assignor != null) properties.put("partition.assignment.strategy", assignors.get(assignor));
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
            while (!stopped) {
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
            ConfigResource resource = new ConfigResource(ConfigResource.Type.GROUP, group);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(earliest))).all().get();
            // The broker hears of it from the controller.
            while (!"earliest".equals(admin.describeConfigs(List.of(resource)).all().get().get(resource).get("share.auto.offset.reset").value())) {
                Thread.sleep(20);
            }
        }
        Properties properties = properties(bootstrap, "group.id", group, "share.acknowledgement.mode", "explicit");
        try (KafkaShareConsumer<byte[], byte[]> consumer = new KafkaShareConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            while (!stopped) {
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
            show("partitions", until(5, () -> admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size()));
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            AlterConfigOp set = new AlterConfigOp(new ConfigEntry("retention.ms", "70000"), AlterConfigOp.OpType.SET);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(set))).all().get();
            show("retention.ms", until("70000", () -> admin.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms").value()));
            String group = prefix + "-group";
            TopicPartition partition = new TopicPartition(topic, 1);
            show("committed", until(7L, () -> {
                admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(7))).all().get();
                return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(partition).offset();
            }));
            show("listed", admin.listGroups().all().get().stream().anyMatch(it -> it.groupId().equals(group)));
            var described = admin.describeClassicGroups(List.of(group)).all().get().get(group);
            show("described", described.state().toString(), "members", described.members().size());
            show("end", admin.listOffsets(Map.of(partition, OffsetSpec.latest())).partitionResult(partition).get().offset());
            admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all().get();
            admin.deleteConsumerGroups(List.of(group)).all().get();
            admin.deleteTopics(List.of(topic)).all().get();
            show("deleted", true);
        }
    }

    static void rights(String bootstrap, String prefix) throws Exception {
        try (Admin admin = Admin.create(properties(bootstrap))) {
            AclBinding may = acl(prefix, PatternType.LITERAL, AclOperation.READ, AclPermissionType.ALLOW);
            AclBinding mayNot = acl(prefix, PatternType.PREFIXED, AclOperation.WRITE, AclPermissionType.DENY);
            admin.createAcls(List.of(may, mayNot)).all().get();
            show("acls", until(List.of("ALLOW READ LITERAL", "DENY WRITE PREFIXED"), () -> acls(admin, prefix)));
            show("revoked", admin.deleteAcls(List.of(mayNot.toFilter())).all().get().size());
            show("acls", until(List.of("ALLOW READ LITERAL"), () -> acls(admin, prefix)));
            ScramCredentialInfo info = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096);
            admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(prefix, info, "secret"))).all().get();
            show("users", until(List.of("SCRAM-SHA-256 4096"), () -> users(admin, prefix)));
            admin.alterUserScramCredentials(List.of(new UserScramCredentialDeletion(prefix, info.mechanism()))).all().get();
            show("users", until(List.of(), () -> users(admin, prefix)));
        }
    }

    static List<String> users(Admin admin, String name) throws Exception {
        DescribeUserScramCredentialsResult described = admin.describeUserScramCredentials();
        if (!described.users().get().contains(name)) return List.of();
        return described.description(name).get().credentialInfos().stream()
            .map(it -> it.mechanism().mechanismName() + " " + it.iterations()).toList();
    }

    static AclBinding acl(String prefix, PatternType pattern, AclOperation operation, AclPermissionType permission) {
        return new AclBinding(new ResourcePattern(ResourceType.TOPIC, prefix, pattern),
            new AccessControlEntry("User:" + prefix, "*", operation, permission));
    }

    static List<String> acls(Admin admin, String prefix) throws Exception {
        AclBindingFilter ofUser = new AclBindingFilter(ResourcePatternFilter.ANY,
            new AccessControlEntryFilter("User:" + prefix, null, AclOperation.ANY, AclPermissionType.ANY));
        return admin.describeAcls(ofUser).values().get().stream().map(it -> it.entry().permissionType() + " "
            + it.entry().operation() + " " + it.pattern().patternType()).sorted().toList();
    }

    /** Asks until the answer is {@code wanted}, as a broker learns a moment later what its controller has acknowledged; the last answer or failure, after a minute. */
    static <T> T until(T wanted, Callable<T> ask) throws Exception {
        long end = System.nanoTime() + TimeUnit.MINUTES.toNanos(1);
        while (true) {
            try {
                T answer = ask.call();
                if (answer.equals(wanted) || System.nanoTime() > end) return answer;
            } catch (ExecutionException error) {
                if (System.nanoTime() > end) throw error;
            }
            Thread.sleep(20);
        }
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
