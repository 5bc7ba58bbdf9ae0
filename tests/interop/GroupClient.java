import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.serialization.*;

/**
 * A member of a group by Kafka's own client, until its standard input ends: BOOTSTRAP GROUP TOPIC NAME=VALUE...
 * Commits what it has read after each poll, and prints a line a record: "PARTITION OFFSET".
 */
class GroupClient {
    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        properties.put("group.id", args[1]);
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        for (String setting : Arrays.copyOfRange(args, 3, args.length)) {
            String[] parts = setting.split("=");
            properties.put(parts[0], parts[1]);
        }
        Thread main = Thread.currentThread();
        var ended = new java.util.concurrent.atomic.AtomicBoolean();
        Thread input = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {}
            } catch (java.io.IOException ignored) {
            }
            ended.set(true);
        });
        input.setDaemon(true);
        input.start();
        try (var consumer = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(args[2]));
            while (!ended.get()) {
                var records = consumer.poll(Duration.ofMillis(100));
                for (var record : records) System.out.println(record.partition() + " " + record.offset());
                if (!records.isEmpty()) consumer.commitSync();
            }
        }
    }
}
