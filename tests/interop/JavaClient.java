import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.*;

/**
 * Kafka's own client as a witness.
 *   write BOOTSTRAP PREFIX COUNT   to PREFIX-CODEC-plain and PREFIX-CODEC-transactional, each codec; every third
 *                                  transaction of ten records is aborted
 *   numbers BOOTSTRAP TOPIC CODEC COUNT   to partition 0, without headers and idempotence, which old formats lack
 *   read BOOTSTRAP TOPIC...        read_committed, to the end; a line a record
 */
class JavaClient {
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");

    public static void main(String[] args) throws Exception {
        if (args[0].equals("write")) {
            for (String codec : CODECS) {
                write(args[1], args[2], codec, false, Integer.parseInt(args[3]));
                write(args[1], args[2], codec, true, Integer.parseInt(args[3]));
            }
        } else if (args[0].equals("numbers")) {
            numbers(args[1], args[2], args[3], Integer.parseInt(args[4]));
        } else {
            for (String topic : Arrays.copyOfRange(args, 2, args.length)) read(args[1], topic);
        }
    }

    static void write(String bootstrap, String prefix, String codec, boolean transactional, int count) throws Exception {
        String topic = prefix + "-" + codec + (transactional ? "-transactional" : "-plain");
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("compression.type", codec);
        properties.put("linger.ms", "5");
        if (transactional) properties.put("transactional.id", topic);
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            if (transactional) producer.initTransactions();
            for (int i = 0; i < count; i++) {
                if (transactional && i % 10 == 0) producer.beginTransaction();
                producer.send(record(topic, i));
                if (transactional && i % 10 == 9) {
                    producer.flush();
                    if (i / 10 % 3 == 2) producer.abortTransaction(); else producer.commitTransaction();
                }
            }
        }
    }

    static void numbers(String bootstrap, String topic, String codec, int count) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("compression.type", codec);
        properties.put("enable.idempotence", "false");
        properties.put("linger.ms", "20");
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int i = 0; i < count; i++) producer.send(new ProducerRecord<>(topic, 0, null, bytes(String.valueOf(i))));
        }
    }

    static ProducerRecord<byte[], byte[]> record(String topic, int i) {
        byte[] key = i % 7 == 0 ? null : bytes("key-" + i);
        byte[] value = i % 11 == 0 ? null : bytes("value-" + i + "-" + "x".repeat(i % 100));
        // Without a key the partitioner is sticky: where such a record goes is no business of the reader.
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, key == null ? 0 : null, 1700000000000L + i, key, value);
        if (i % 5 == 0) {
            record.headers().add("twice", bytes("a")).add("null", null).add("twice", bytes("b"));
        }
        return record;
    }

    static void read(String bootstrap, String topic) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("isolation.level", "read_committed");
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = new ArrayList<>();
            consumer.partitionsFor(topic).forEach(p -> partitions.add(new TopicPartition(topic, p.partition())));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            StringBuilder out = new StringBuilder();
            while (partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    out.append(topic).append('|').append(record.partition()).append('|').append(record.timestamp());
                    out.append('|').append(text(record.key())).append('|').append(text(record.value())).append('|');
                    for (Header header : record.headers()) out.append(header.key()).append('=').append(text(header.value())).append(';');
                    out.append('\n');
                }
            }
            System.out.print(out);
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return bytes == null ? "(null)" : new String(bytes, StandardCharsets.UTF_8);
    }
}
