import com.fasterxml.jackson.core.json.JsonReadFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.InputStream;
import java.nio.file.Path;
import java.util.jar.JarFile;
import org.apache.kafka.common.protocol.ApiKeys;

/** Prints the message specifications inside the kafka-clients jar: one line of JSON each. */
public class Specs {
    public static void main(String[] arguments) throws Exception {
        JsonMapper mapper = JsonMapper.builder().enable(JsonReadFeature.ALLOW_JAVA_COMMENTS).build();
        Path jar = Path.of(ApiKeys.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        try (JarFile file = new JarFile(jar.toFile())) {
            var entries = file.stream()
                .filter(entry -> entry.getName().matches("common/message/.*\\.json"))
                .sorted((a, b) -> a.getName().compareTo(b.getName()))
                .toList();
            for (var entry : entries) {
                try (InputStream spec = file.getInputStream(entry)) {
                    System.out.println(mapper.writeValueAsString(mapper.readTree(spec)));
                }
            }
        }
    }
}
