import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

/**
 * Reads the requests of a file (each line: API key, version, bytes) with Kafka's generated classes and
 * prints each line with what was understood. Bytes that Kafka would write differently are an error.
 */
public class Requests {
    public static void main(String[] arguments) throws Exception {
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            String[] parts = line.split(" ");
            short version = Short.parseShort(parts[1]);
            ApiMessage request = ApiMessageType.fromApiKey(Short.parseShort(parts[0])).newRequest();
            ByteBuffer bytes = ByteBuffer.wrap(HexFormat.of().parseHex(parts.length > 2 ? parts[2] : ""));
            request.read(new ByteBufferAccessor(bytes), version);
            if (bytes.hasRemaining()) throw new IllegalStateException(line + ": bytes left");
            ObjectSerializationCache cache = new ObjectSerializationCache();
            ByteBuffer again = ByteBuffer.allocate(request.size(cache, version));
            request.write(new ByteBufferAccessor(again), cache, version);
            if (!again.flip().equals(bytes.rewind())) throw new IllegalStateException(line + ": written differently");
            // Record sets print as objects with an identity.
            System.out.println(line + " " + request.toString().replaceAll("MemoryRecords\\([^)]*\\)|java[.]nio[^,)]*", "…"));
        }
    }
}
