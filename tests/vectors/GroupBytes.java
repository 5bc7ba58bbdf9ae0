import java.nio.ByteBuffer;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Assignment;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.internals.ConsumerProtocol;
import org.apache.kafka.common.TopicPartition;

/**
 * What members of a classic group tell each other, as Kafka's own client writes it in each version. One line each:
 * "subscription VERSION TOPICS USER-DATA OWNED GENERATION RACK BYTES" and "assignment VERSION PARTITIONS USER-DATA
 * BYTES"; "-" for none.
 */
class GroupBytes {
    private static final List<TopicPartition> NONE = List.of();
    private static final List<TopicPartition> SOME = List.of(
        new TopicPartition("a", 0), new TopicPartition("a", 7), new TopicPartition("z.9_y", 2147483647));

    public static void main(String[] arguments) {
        for (short version = 0; version <= 3; version++) {
            for (byte[] data : new byte[][] {null, {}, {1, 2, (byte) 255}}) {
                for (var partitions : List.of(NONE, SOME)) {
                    subscription(version, List.of("a", "b", "z.9_y"), data, partitions, 5, Optional.of("r1"));
                    subscription(version, List.of(), data, partitions, -1, Optional.empty());
                    assignment(version, partitions, data);
                }
            }
        }
    }

    private static ByteBuffer buffer(byte[] data) {
        return data == null ? null : ByteBuffer.wrap(data);
    }

    private static void subscription(
            short version, List<String> topics, byte[] data, List<TopicPartition> owned, int generation, Optional<String> rack) {
        var subscription = new Subscription(topics, buffer(data), owned, generation, rack);
        var bytes = ConsumerProtocol.serializeSubscription(subscription, version);
        System.out.println("subscription " + version + " " + list(topics) + " " + hex(data) + " " + list(owned) + " "
            + generation + " " + rack.orElse("-") + " " + hex(bytes));
    }

    private static void assignment(short version, List<TopicPartition> partitions, byte[] data) {
        var bytes = ConsumerProtocol.serializeAssignment(new Assignment(partitions, buffer(data)), version);
        System.out.println("assignment " + version + " " + list(partitions) + " " + hex(data) + " " + hex(bytes));
    }

    private static String hex(byte[] bytes) {
        return bytes == null ? "-" : "x" + HexFormat.of().formatHex(bytes);
    }

    private static String hex(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return hex(bytes);
    }

    private static String list(List<?> items) {
        return items.isEmpty() ? "-" : items.stream().map(Object::toString).collect(Collectors.joining(","));
    }
}
