import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.TreeMap;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.MemoryRecords;

/**
 * Prints every request and answer in every version as Kafka's generated classes write it, one line each:
 * API key, kind, version, filling, bytes. "full" has two items in each array, all tagged fields and no
 * null; "bare" has empty arrays, no tagged fields and null wherever that is allowed.
 */
public class Messages {
    private final boolean full;
    private int counter = 0;

    private Messages(boolean full) {
        this.full = full;
    }

    public static void main(String[] arguments) {
        for (ApiMessageType api : ApiMessageType.values()) {
            print(api, "request", api.requestSchemas());
            print(api, "response", api.responseSchemas());
        }
    }

    private static void print(ApiMessageType api, String kind, Schema[] schemas) {
        for (short version = 0; version < schemas.length; version++) {
            if (schemas[version] == null) continue;
            for (boolean full : new boolean[] {true, false}) {
                ByteBuffer bytes = new Messages(full).write(schemas[version]);
                ApiMessage message = kind.equals("request") ? api.newRequest() : api.newResponse();
                ByteBuffer authored = rewrite(message, bytes.duplicate(), version);
                System.out.printf("%d %s %d %s %s%n", api.apiKey(), kind, version, full ? "full" : "bare",
                    HexFormat.of().formatHex(authored.array(), 0, authored.limit()));
            }
        }
    }

    /** Read and written by the class that brokers and clients use, rather than by its schema. */
    private static ByteBuffer rewrite(ApiMessage message, ByteBuffer bytes, short version) {
        message.read(new ByteBufferAccessor(bytes), version);
        if (bytes.hasRemaining()) throw new IllegalStateException(message + ": bytes left");
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer authored = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(authored), cache, version);
        return authored.flip();
    }

    private ByteBuffer write(Schema schema) {
        Struct struct = struct(schema);
        ByteBuffer bytes = ByteBuffer.allocate(struct.sizeOf());
        struct.writeTo(bytes);
        return bytes.flip();
    }

    private Struct struct(Schema schema) {
        Struct struct = new Struct(schema);
        for (BoundField field : schema.fields()) struct.set(field, value(field.def.type));
        return struct;
    }

    private Object value(Type type) {
        if (type instanceof TaggedFields tagged) return tags(tagged);
        if (!full && type.isNullable()) return null;
        if (type.isArray()) {
            Type item = type.arrayElementType().orElseThrow();
            return full ? new Object[] {value(item), value(item)} : new Object[0];
        }
        if (type instanceof Schema schema) return struct(schema);
        counter = counter % 100 + 1;
        return switch (type.toString()) {
            case "BOOLEAN" -> full;
            case "INT8" -> (byte) counter;
            case "INT16" -> (short) counter;
            case "UINT16", "INT32" -> counter;
            case "UINT32", "INT64" -> (long) counter;
            case "FLOAT64" -> (double) counter;
            case "UUID" -> new Uuid(7, counter);
            case "STRING", "COMPACT_STRING", "NULLABLE_STRING", "COMPACT_NULLABLE_STRING" -> "s" + counter;
            case "BYTES", "COMPACT_BYTES", "NULLABLE_BYTES", "COMPACT_NULLABLE_BYTES" -> bytes();
            case "RECORDS", "COMPACT_RECORDS", "NULLABLE_RECORDS", "COMPACT_NULLABLE_RECORDS" ->
                MemoryRecords.readableRecords(bytes());
            default -> throw new IllegalStateException(type.toString());
        };
    }

    private ByteBuffer bytes() {
        byte[] bytes = new byte[3];
        Arrays.fill(bytes, (byte) counter);
        return ByteBuffer.wrap(bytes);
    }

    private TreeMap<Integer, Object> tags(TaggedFields tagged) {
        TreeMap<Integer, Object> values = new TreeMap<>();
        if (full) tagged.fields().forEach((tag, field) -> values.put(tag, value(field.type)));
        return values;
    }
}
