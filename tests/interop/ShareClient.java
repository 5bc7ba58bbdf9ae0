import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;

/**
 * Kafka's own client and share groups.
 *   configure BOOTSTRAP GROUP NAME=VALUE...   of the group
 *   consume BOOTSTRAP GROUP TOPIC COUNT       accepts what it gets, a line a record ("PARTITION OFFSET DELIVERIES"),
 *                                             until it has COUNT, or gets nothing for a while after its first
 */
class ShareClient {
    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[1]);
        if (args[0].equals("configure")) {
            try (Admin admin = Admin.create(properties)) {
                var group = new ConfigResource(ConfigResource.Type.GROUP, args[2]);
                List<AlterConfigOp> changes = new ArrayList<>();
                for (String change : Arrays.copyOfRange(args, 3, args.length)) {
                    String[] parts = change.split("=");
                    changes.add(new AlterConfigOp(new ConfigEntry(parts[0], parts[1]), AlterConfigOp.OpType.SET));
                }
                admin.incrementalAlterConfigs(Map.of(group, changes)).all().get();
                // The broker hears of it from the controller.
                for (AlterConfigOp change : changes) {
                    String name = change.configEntry().name(), value = change.configEntry().value();
                    while (!value.equals(admin.describeConfigs(List.of(group)).all().get().get(group).get(name).value())) {
                        Thread.sleep(20);
                    }
                }
            }
            return;
        }
        properties.put("group.id", args[2]);
        int wanted = Integer.parseInt(args[4]), seen = 0, idle = 0;
        try (var consumer = new KafkaShareConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(args[3]));
            System.out.println("ready");
            System.out.flush();
            while (seen < wanted && (seen == 0 || idle < 10)) {
                var records = consumer.poll(Duration.ofMillis(500));
                idle = records.isEmpty() ? idle + 1 : 0;
                for (var record : records) {
                    System.out.println(record.partition() + " " + record.offset() + " " + record.deliveryCount().get());
                    seen++;
                }
            }
            consumer.commitSync();
        }
    }
}
