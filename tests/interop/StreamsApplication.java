import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.KStream;

/**
 * An application of Kafka Streams that runs by the streams protocol (KIP-1071), until its standard input ends:
 * BOOTSTRAP APPLICATION INPUT OUTPUT FOLDER. It copies records by way of a topic of its own, so that its topology has two
 * parts, and keeps no state.
 */
class StreamsApplication {
    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        properties.put("application.id", args[1]);
        properties.put("group.protocol", "streams");
        properties.put("auto.offset.reset", "earliest");
        properties.put("commit.interval.ms", "100");
        properties.put("application.server", "app.example:7070");
        properties.put("state.dir", args[4]);
        properties.put("default.key.serde", Serdes.ByteArray().getClass().getName());
        properties.put("default.value.serde", Serdes.ByteArray().getClass().getName());
        StreamsBuilder builder = new StreamsBuilder();
        KStream<byte[], byte[]> input = builder.stream(args[2]);
        input.repartition().to(args[3]);
        try (KafkaStreams streams = new KafkaStreams(builder.build(), properties)) {
            streams.start();
            while (System.in.read() >= 0) {}
        }
    }
}
