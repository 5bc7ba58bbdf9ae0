import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.nio.ByteBuffer;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Assignment;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.clients.consumer.internals.AbstractPartitionAssignor;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;

/**
 * Groups, and how Kafka's own assignors divide partitions among their members. One line each: "group" with the
 * strategy, "topic" with the racks of each partition's replicas, "member" with instance, rack, topics, generation,
 * owned partitions and user data, "gets" with a member's partitions; "-" for none.
 */
public class Assignments {
    private static final Random RANDOM = new Random(42);
    private static final String[] TOPICS = {"a", "b", "c", "d"};
    private static final String[] RACKS = {"r0", "r1", "r2"};

    public static void main(String[] arguments) {
        for (int count = 0; count < 60; count++) {
            boolean uniform = RANDOM.nextBoolean();
            boolean racks = RANDOM.nextInt(3) > 0;
            var topics = topics(racks);
            var members = members(uniform, racks);
            print("range", topics, members, new RangeAssignor());
            print("roundrobin", topics, members, new RoundRobinAssignor());
            // A second rebalance, with somebody gone and somebody new.
            twice("sticky", topics, members);
            twice("cooperative-sticky", topics, members);
        }
    }

    private static Map<String, List<PartitionInfo>> topics(boolean racks) {
        var topics = new TreeMap<String, List<PartitionInfo>>();
        int common = 1 + RANDOM.nextInt(7);
        for (String topic : TOPICS) {
            // Often as many as another topic has: co-partitioned.
            int partitions = RANDOM.nextBoolean() ? common : RANDOM.nextInt(9);
            var infos = new ArrayList<PartitionInfo>();
            for (int partition = 0; partition < partitions; partition++) {
                int replicas = racks ? 1 + RANDOM.nextInt(3) : 0;
                int first = RANDOM.nextInt(3);
                Node[] nodes = new Node[replicas];
                for (int i = 0; i < replicas; i++) {
                    nodes[i] = new Node(i, "h", 1, RACKS[(first + i) % 3]);
                }
                infos.add(new PartitionInfo(topic, partition, null, nodes, nodes));
            }
            topics.put(topic, infos);
        }
        return topics;
    }

    private static Map<String, Subscription> members(boolean uniform, boolean racks) {
        var members = new LinkedHashMap<String, Subscription>();
        int count = 1 + RANDOM.nextInt(7);
        for (int i = 0; i < count; i++) members.put("m" + i, member(i, uniform, racks, List.of(), -1, null));
        return members;
    }

    private static Subscription member(
            int i, boolean uniform, boolean racks, List<TopicPartition> owned, int generation, ByteBuffer data) {
        var topics = new ArrayList<String>();
        for (String topic : TOPICS) if (uniform || RANDOM.nextInt(3) > 0) topics.add(topic);
        Optional<String> rack = racks && RANDOM.nextInt(5) > 0 ? Optional.of(RACKS[RANDOM.nextInt(3)]) : Optional.empty();
        var subscription = new Subscription(topics, data, owned, generation, rack);
        if (RANDOM.nextInt(4) == 0) subscription.setGroupInstanceId(Optional.of("i" + (9 - i)));
        return subscription;
    }

    private static void twice(String strategy, Map<String, List<PartitionInfo>> topics, Map<String, Subscription> members) {
        boolean cooperative = strategy.startsWith("cooperative");
        var first = print(strategy, topics, members, cooperative ? new CooperativeStickyAssignor() : new StickyAssignor());
        var next = new LinkedHashMap<String, Subscription>();
        members.forEach((name, old) -> {
            if (members.size() > 1 && name.equals("m0")) return;
            var partitions = first.get(name);
            ByteBuffer data = null;
            var assigned = new Assignment(partitions);
            var metadata = new ConsumerGroupMetadata("g", 3, name, Optional.empty());
            if (cooperative) {
                var assignor = new CooperativeStickyAssignor();
                assignor.onAssignment(assigned, metadata);
                data = assignor.subscriptionUserData(Set.of());
            } else {
                var assignor = new StickyAssignor();
                assignor.onAssignment(assigned, metadata);
                data = assignor.subscriptionUserData(Set.of());
            }
            var owned = cooperative ? partitions : List.<TopicPartition>of();
            var subscription = new Subscription(old.topics(), data, owned, cooperative ? 3 : -1, old.rackId());
            subscription.setGroupInstanceId(old.groupInstanceId());
            next.put(name, subscription);
        });
        var topicsOfAll = new ArrayList<>(members.values().iterator().next().topics());
        next.put("n", new Subscription(topicsOfAll, null, List.of(), -1, Optional.empty()));
        print(strategy, topics, next, cooperative ? new CooperativeStickyAssignor() : new StickyAssignor());
    }

    private static Map<String, List<TopicPartition>> print(
            String strategy,
            Map<String, List<PartitionInfo>> topics,
            Map<String, Subscription> members,
            AbstractPartitionAssignor assignor) {
        System.out.println("group " + strategy);
        topics.forEach((topic, partitions) -> {
            if (partitions.isEmpty()) return;
            String racks = partitions.stream().map(Assignments::racks).collect(Collectors.joining(";"));
            System.out.println("topic " + topic + " " + racks);
        });
        members.forEach((name, member) -> {
            String data = "-";
            if (member.userData() != null) {
                byte[] bytes = new byte[member.userData().remaining()];
                member.userData().duplicate().get(bytes);
                data = HexFormat.of().formatHex(bytes);
            }
            System.out.println("member " + name + " " + member.groupInstanceId().orElse("-") + " "
                + member.rackId().orElse("-") + " " + list(member.topics()) + " " + member.generationId().orElse(-1)
                + " " + list(member.ownedPartitions()) + " " + data);
        });
        var present = new HashMap<String, List<PartitionInfo>>();
        var subscribed = members.values().stream().flatMap(m -> m.topics().stream()).collect(Collectors.toSet());
        topics.forEach((topic, partitions) -> {
            if (!partitions.isEmpty() && subscribed.contains(topic)) present.put(topic, partitions);
        });
        var assigned = assignor.assignPartitions(present, new HashMap<>(members));
        members.keySet().forEach(name -> {
            var partitions = new ArrayList<>(assigned.get(name));
            partitions.sort((a, b) -> a.topic().equals(b.topic()) ? a.partition() - b.partition() : a.topic().compareTo(b.topic()));
            System.out.println("gets " + name + " " + list(partitions));
        });
        return assigned;
    }

    private static String racks(PartitionInfo partition) {
        var names = new ArrayList<String>();
        for (Node node : partition.replicas()) names.add(node.rack());
        Collections.sort(names);
        return names.isEmpty() ? "-" : String.join("+", names);
    }

    private static String list(List<?> items) {
        return items.isEmpty() ? "-" : items.stream().map(Object::toString).collect(Collectors.joining(","));
    }
}
