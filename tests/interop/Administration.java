// What Kafka's own Admin client sees of a cluster: one line an operation, the outcome or the exception.
// Arguments: "operations" BOOTSTRAP, or "login" BOOTSTRAP [name=value]...

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.*;
import org.apache.kafka.common.resource.*;
import org.apache.kafka.common.serialization.*;

public class Administration {
    interface Operation {
        Object run() throws Exception;
    }

    static void say(String name, Operation operation) {
        try {
            System.out.println(name + ": " + operation.run());
        } catch (ExecutionException error) {
            System.out.println(name + ": " + error.getCause().getClass().getSimpleName());
        } catch (Exception error) {
            System.out.println(name + ": " + error.getClass().getSimpleName());
        }
    }

    /** The same of what was written before: a broker learns a moment later what its controller has acknowledged. */
    static void read(Admin admin, String name, Operation operation) throws Exception {
        settle(admin, Integer.toString(1 << 20 | ++reads));
        say(name, operation);
    }

    static int reads;

    /** Writes to a topic's configuration and reads until it is there; the metadata log has an order, so all before is, too. */
    static void settle(Admin admin, String value) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, "settled");
        AlterConfigOp set = new AlterConfigOp(new ConfigEntry("max.message.bytes", value), AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(set))).all().get();
        long end = System.nanoTime() + TimeUnit.MINUTES.toNanos(1);
        while (!isThere(admin, resource, value)) {
            if (System.nanoTime() > end) throw new IllegalStateException("what was written is not read: " + value);
            Thread.sleep(5);
        }
    }

    static boolean isThere(Admin admin, ConfigResource resource, String value) throws Exception {
        try {
            return describe(admin, resource, "max.message.bytes").startsWith(value + " ");
        } catch (ExecutionException error) {
            if (error.getCause() instanceof org.apache.kafka.common.errors.UnknownTopicOrPartitionException) return false;
            throw error;
        }
    }

    static Properties properties(String[] arguments) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[1]);
        properties.put("default.api.timeout.ms", "30000");
        properties.put("request.timeout.ms", "10000");
        for (int i = 2; i < arguments.length; i++) {
            String[] pair = arguments[i].split("=", 2);
            properties.put(pair[0], pair[1]);
        }
        return properties;
    }

    public static void main(String[] arguments) throws Exception {
        Properties properties = properties(arguments);
        try (Admin admin = Admin.create(properties)) {
            if (arguments[0].equals("operations")) {
                admin.createTopics(List.of(new NewTopic("settled", 1, (short) 1))).all().get();
                topics(admin);
                configs(admin);
                quotas(admin);
                users(admin);
                rest(admin);
            } else {
                login(admin, properties);
            }
        }
    }

    static void topics(Admin admin) throws Exception {
        say("create", () -> {
            CreateTopicsResult made = admin.createTopics(List.of(new NewTopic("administered", 2, (short) 1)));
            return made.numPartitions("administered").get() + " " + made.replicationFactor("administered").get();
        });
        say("create again", () -> admin.createTopics(List.of(new NewTopic("administered", 2, (short) 1))).all().get());
        say("create assigned elsewhere", () -> admin.createTopics(
            List.of(new NewTopic("elsewhere", Map.of(0, List.of(99))))).all().get());
        read(admin, "describe", () -> {
            TopicDescription topic = admin.describeTopics(List.of("administered"),
                new DescribeTopicsOptions().includeAuthorizedOperations(true)).allTopicNames().get().get("administered");
            return topic.partitions().size() + " " + new TreeSet<>(topic.authorizedOperations());
        });
        say("describe unknown", () -> admin.describeTopics(List.of("not-there")).allTopicNames().get());
        say("grow", () -> admin.createPartitions(Map.of("administered", NewPartitions.increaseTo(3))).all().get());
        say("shrink", () -> admin.createPartitions(Map.of("administered", NewPartitions.increaseTo(1))).all().get());
        say("grow assigned wrongly", () -> admin.createPartitions(
            Map.of("administered", NewPartitions.increaseTo(5, List.of(List.of(0))))).all().get());
        say("delete unknown", () -> admin.deleteTopics(List.of("not-there")).all().get());
        TopicPartition partition = new TopicPartition("administered", 0);
        say("elect", () -> {
            Optional<Throwable> error = admin.electLeaders(ElectionType.PREFERRED, Set.of(partition)).partitions().get().get(partition);
            return error.map(it -> it.getClass().getSimpleName()).orElse("elected");
        });
        say("elect unclean", () -> admin.electLeaders(ElectionType.UNCLEAN, Set.of(partition)).partitions().get()
            .get(partition).map(it -> it.getClass().getSimpleName()).orElse("elected"));
        say("elect in nothing", () -> admin.electLeaders(ElectionType.PREFERRED, Set.of(new TopicPartition("not-there", 0)))
            .partitions().get().values().iterator().next().map(it -> it.getClass().getSimpleName()).orElse("elected"));
        say("reassign nowhere", () -> admin.alterPartitionReassignments(Map.of(partition,
            Optional.of(new NewPartitionReassignment(List.of(99))))).all().get());
        say("reassign empty", () -> admin.alterPartitionReassignments(Map.of(partition, Optional.empty())).all().get());
        read(admin, "reassignments", () -> admin.listPartitionReassignments().reassignments().get());
        say("delete records", () -> admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(0)))
            .lowWatermarks().get(partition).get().lowWatermark());
        say("delete records beyond", () -> admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(9)))
            .lowWatermarks().get(partition).get().lowWatermark());
        read(admin, "producers", () -> admin.describeProducers(List.of(partition)).all().get().get(partition).activeProducers());
    }

    static String describe(Admin admin, ConfigResource resource, String name) throws Exception {
        ConfigEntry entry = admin.describeConfigs(List.of(resource)).all().get().get(resource).get(name);
        return entry == null ? "none" : entry.value() + " " + entry.source() + " " + entry.type() + " " + entry.isReadOnly();
    }

    static void alter(Admin admin, String label, ConfigResource resource, String name, String value, AlterConfigOp.OpType how) throws Exception {
        say(label, () -> admin.incrementalAlterConfigs(Map.of(resource,
            List.of(new AlterConfigOp(new ConfigEntry(name, value), how)))).all().get());
        // What is set on all brokers reaches Kafka's answers some time later.
        if (resource.type() != ConfigResource.Type.BROKER) read(admin, label + " described", () -> describe(admin, resource, name));
    }

    static void configs(Admin admin) throws Exception {
        AlterConfigOp.OpType set = AlterConfigOp.OpType.SET;
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, "administered");
        alter(admin, "topic set", topic, "delete.retention.ms", "1000", set);
        alter(admin, "topic append", topic, "cleanup.policy", "compact", AlterConfigOp.OpType.APPEND);
        alter(admin, "topic subtract", topic, "cleanup.policy", "delete", AlterConfigOp.OpType.SUBTRACT);
        alter(admin, "topic delete", topic, "delete.retention.ms", "", AlterConfigOp.OpType.DELETE);
        alter(admin, "topic wrong", topic, "delete.retention.ms", "soon", set);
        alter(admin, "topic unknown", topic, "no.such.thing", "1", set);
        alter(admin, "group set", new ConfigResource(ConfigResource.Type.GROUP, "g"), "consumer.session.timeout.ms", "50000", set);
        alter(admin, "group unknown", new ConfigResource(ConfigResource.Type.GROUP, "g"), "no.such.thing", "1", set);
        alter(admin, "metrics set", new ConfigResource(ConfigResource.Type.CLIENT_METRICS, "m"), "interval.ms", "1000", set);
        alter(admin, "brokers set", new ConfigResource(ConfigResource.Type.BROKER, ""), "log.cleaner.threads", "2", set);
        say("topic of nothing", () -> describe(admin, new ConfigResource(ConfigResource.Type.TOPIC, "not-there"), "delete.retention.ms"));
        // It would be looked for until the time is over, whatever that is.
        ConfigResource nothing = new ConfigResource(ConfigResource.Type.BROKER, "99");
        say("broker of nothing", () -> admin.describeConfigs(List.of(nothing), new DescribeConfigsOptions().timeoutMs(500)).all().get());
        read(admin, "resources", () -> {
            TreeSet<String> names = new TreeSet<>();
            for (ConfigResource it : admin.listConfigResources(
                Set.of(ConfigResource.Type.GROUP, ConfigResource.Type.CLIENT_METRICS), new ListConfigResourcesOptions()).all().get())
                names.add(it.type() + " " + it.name());
            return names;
        });
        alter(admin, "brokers unset", new ConfigResource(ConfigResource.Type.BROKER, ""), "log.cleaner.threads", "", AlterConfigOp.OpType.DELETE);
    }

    static void quota(Admin admin, String label, Map<String, String> entity, String key, Double value) {
        say(label, () -> admin.alterClientQuotas(List.of(new ClientQuotaAlteration(new ClientQuotaEntity(entity),
            List.of(new ClientQuotaAlteration.Op(key, value))))).all().get());
    }

    static void quotas(Admin admin) throws Exception {
        Map<String, String> anyUser = new HashMap<>();
        anyUser.put("user", null);
        quota(admin, "quota", Map.of("user", "administered"), "producer_byte_rate", 1000000.0);
        quota(admin, "quota default", anyUser, "request_percentage", 1000.5);
        quota(admin, "quota pair", Map.of("user", "administered", "client-id", "c"), "consumer_byte_rate", 2000000.0);
        quota(admin, "quota unknown", Map.of("user", "administered"), "no_such_rate", 1.0);
        quota(admin, "quota fraction", Map.of("user", "administered"), "producer_byte_rate", 0.5);
        quota(admin, "quota negative", Map.of("user", "administered"), "producer_byte_rate", -1.0);
        quota(admin, "quota of a stranger", Map.of("planet", "mars"), "producer_byte_rate", 1.0);
        quota(admin, "quota ip", Map.of("ip", "10.0.0.1"), "connection_creation_rate", 10.0);
        quota(admin, "quota ip and user", Map.of("ip", "10.0.0.1", "user", "u"), "connection_creation_rate", 10.0);
        read(admin, "quotas", () -> {
            TreeSet<String> found = new TreeSet<>();
            admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get().forEach(
                (entity, values) -> found.add(new TreeMap<>(entity.entries()) + "=" + new TreeMap<>(values)));
            return found;
        });
        read(admin, "quotas strict", () -> admin.describeClientQuotas(ClientQuotaFilter.containsOnly(
            List.of(ClientQuotaFilterComponent.ofEntity("user", "administered")))).entities().get().values());
        read(admin, "quotas of default", () -> admin.describeClientQuotas(ClientQuotaFilter.containsOnly(
            List.of(ClientQuotaFilterComponent.ofDefaultEntity("user")))).entities().get().values());
        quota(admin, "quota removed", Map.of("user", "administered"), "producer_byte_rate", null);
        quota(admin, "quota default removed", anyUser, "request_percentage", null);
        quota(admin, "quota pair removed", Map.of("user", "administered", "client-id", "c"), "consumer_byte_rate", null);
        quota(admin, "quota ip removed", Map.of("ip", "10.0.0.1"), "connection_creation_rate", null);
    }

    static void users(Admin admin) throws Exception {
        for (int iterations : new int[] {4096, 4095, 20000})
            say("user with " + iterations, () -> admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(
                "administered", new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, iterations), "password"))).all().get());
        say("user without name", () -> admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(
            "", new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), "password"))).all().get());
        read(admin, "users", () -> admin.describeUserScramCredentials(List.of("administered")).all().get());
        read(admin, "users unknown", () -> admin.describeUserScramCredentials(List.of("nobody")).all().get());
        say("user deleted", () -> admin.alterUserScramCredentials(List.of(
            new UserScramCredentialDeletion("administered", ScramMechanism.SCRAM_SHA_256))).all().get());
        say("user deleted again", () -> admin.alterUserScramCredentials(List.of(
            new UserScramCredentialDeletion("administered", ScramMechanism.SCRAM_SHA_256))).all().get());
    }

    static AclBinding reads(String principal) {
        return new AclBinding(new ResourcePattern(ResourceType.TOPIC, "administered", PatternType.LITERAL),
            new AccessControlEntry(principal, "*", AclOperation.READ, AclPermissionType.ALLOW));
    }

    static void rest(Admin admin) throws Exception {
        say("acls without authorizer", () -> admin.createAcls(List.of(reads("User:a"))).all().get());
        say("acls described without authorizer", () -> admin.describeAcls(AclBindingFilter.ANY).values().get());
        say("acls deleted without authorizer", () -> admin.deleteAcls(List.of(AclBindingFilter.ANY)).all().get());
        say("token", () -> admin.createDelegationToken().delegationToken().get());
        say("tokens", () -> admin.describeDelegationToken().delegationTokens().get());
        say("feature unknown", () -> admin.updateFeatures(Map.of("no.such",
            new FeatureUpdate((short) 1, FeatureUpdate.UpgradeType.UPGRADE)), new UpdateFeaturesOptions()).all().get());
        say("feature too high", () -> admin.updateFeatures(Map.of("transaction.version",
            new FeatureUpdate((short) 9, FeatureUpdate.UpgradeType.UPGRADE)), new UpdateFeaturesOptions()).all().get());
        say("feature lower", () -> admin.updateFeatures(Map.of("transaction.version",
            new FeatureUpdate((short) 1, FeatureUpdate.UpgradeType.UPGRADE)), new UpdateFeaturesOptions()).all().get());
        read(admin, "features", () -> {
            FeatureMetadata features = admin.describeFeatures().featureMetadata().get();
            TreeMap<String, String> told = new TreeMap<>();
            for (String name : List.of("transaction.version", "group.version", "share.version", "metadata.version"))
                told.put(name, features.finalizedFeatures().get(name) + " of " + features.supportedFeatures().get(name));
            return told;
        });
        say("quorum", () -> admin.describeMetadataQuorum().quorumInfo().get().voters().size());
        say("unregister nobody", () -> admin.unregisterBroker(99).all().get());
        read(admin, "log dirs", () -> {
            int node = admin.describeCluster().nodes().get().iterator().next().id();
            return admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node).values().iterator().next()
                .replicaInfos().containsKey(new TopicPartition("administered", 0));
        });
        say("log dir of nothing", () -> {
            int node = admin.describeCluster().nodes().get().iterator().next().id();
            return admin.alterReplicaLogDirs(Map.of(
                new TopicPartitionReplica("administered", 0, node), "/no/such/folder")).all().get();
        });
        say("cluster", () -> new TreeSet<>(admin.describeCluster(
            new DescribeClusterOptions().includeAuthorizedOperations(true)).authorizedOperations().get()));
        say("transactions", () -> admin.describeTransactions(List.of("not-there")).all().get());
        say("delete", () -> admin.deleteTopics(List.of("administered")).all().get());
    }

    /** Writes, reads and administers with the rights of whoever the properties log in. */
    static void login(Admin admin, Properties properties) {
        say("topics", () -> new TreeSet<>(admin.listTopics().names().get()));
        properties.put("max.block.ms", "20000");
        say("write", () -> {
            try (Producer<String, String> producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
                return producer.send(new ProducerRecord<>("open", "value")).get().partition();
            }
        });
        properties.put("auto.offset.reset", "earliest");
        say("read", () -> {
            try (Consumer<String, String> consumer = new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer())) {
                consumer.assign(List.of(new TopicPartition("open", 0)));
                for (int turn = 0; turn < 100; turn++)
                    for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) return record.value();
                return "nothing";
            }
        });
        say("create", () -> admin.createTopics(List.of(new NewTopic("made-by-login", 1, (short) 1))).all().get());
        say("grant", () -> admin.createAcls(List.of(reads("User:x"))).all().get());
        say("granted", () -> admin.describeAcls(AclBindingFilter.ANY).values().get().size());
        say("revoke", () -> admin.deleteAcls(List.of(reads("User:x").toFilter())).all().get().size());
        say("token", () -> admin.createDelegationToken().delegationToken().get().tokenInfo().owner());
    }
}
