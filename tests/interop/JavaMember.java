import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Kafka's own consumer as a member among others: BOOTSTRAP TOPIC GROUP=SETTING...
 *
 * One member for each group; SETTING is the class of its strategy, or "consumer" for KIP-848. Prints GROUP|assigned|N,N
 * after each change and GROUP|record|PARTITION|OFFSET, and commits after each poll. Leaves when standard input ends.
 */
class JavaMember {
    static volatile boolean stopped;

    public static void main(String[] args) throws Exception {
        List<Thread> members = new ArrayList<>();
        for (String member : Arrays.copyOfRange(args, 2, args.length)) {
            String[] parts = member.split("=");
            Thread thread = new Thread(() -> read(args[0], args[1], parts[0], parts[1]));
            thread.start();
            members.add(thread);
        }
        while (System.in.read() >= 0) { }
        stopped = true;
        for (Thread thread : members) thread.join();
    }

    static void read(String bootstrap, String topic, String group, String setting) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("group.id", group);
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        if (setting.equals("consumer")) properties.put("group.protocol", "consumer");
        else {
            properties.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + setting);
            properties.put("heartbeat.interval.ms", "200");
        }
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            Set<TopicPartition> told = null;
            consumer.subscribe(List.of(topic));
            while (!stopped) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(50));
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    System.out.println(group + "|record|" + record.partition() + "|" + record.offset());
                }
                if (!records.isEmpty()) consumer.commitSync();
                Set<TopicPartition> assigned = Set.copyOf(consumer.assignment());
                if (!assigned.equals(told)) {
                    told = assigned;
                    String numbers = assigned.stream().map(p -> String.valueOf(p.partition())).collect(Collectors.joining(","));
                    System.out.println(group + "|assigned|" + numbers);
                }
            }
        }
        System.out.println(group + "|assigned|");
    }
}
