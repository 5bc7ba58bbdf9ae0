import com.fasterxml.jackson.databind.JsonNode;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;

/**
 * Of the messages of a file (each line: API key, kind, version, filling, bytes) prints the answers of some APIs, each
 * as API key, version, bytes and what Kafka's own JSON converter makes of them.
 */
public class Answers {
    public static void main(String[] arguments) throws Exception {
        List<String> keys = List.of(arguments[1].split(","));
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            String[] parts = line.split(" ");
            if (!keys.contains(parts[0]) || !parts[1].equals("response")) continue;
            short version = Short.parseShort(parts[2]);
            ApiMessage answer = ApiMessageType.fromApiKey(Short.parseShort(parts[0])).newResponse();
            answer.read(new ByteBufferAccessor(ByteBuffer.wrap(HexFormat.of().parseHex(parts[4]))), version);
            Class<?> converter = Class.forName(answer.getClass().getName() + "JsonConverter");
            JsonNode json = (JsonNode) converter.getMethod("write", answer.getClass(), short.class).invoke(null, answer, version);
            System.out.println(parts[0] + " " + version + " " + parts[4] + " " + json);
        }
    }
}
