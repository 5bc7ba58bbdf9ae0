import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.record.internal.SimpleRecord;

/**
 * Record batches by Kafka's own classes. "write COUNT" prints batches of the records that the test
 * describes, one line each: name, bytes; "legacy COUNT" prints them in the formats before v2. "read FILE"
 * reads such lines and prints what Java sees in them.
 */
public class Batches {
    private static final HexFormat HEX = HexFormat.of();

    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("write")) {
            write(Integer.parseInt(arguments[1]));
        } else if (arguments[0].equals("legacy")) {
            legacy(Integer.parseInt(arguments[1]));
        } else {
            for (String line : Files.readAllLines(Path.of(arguments[1]))) read(line.split(" "));
        }
    }

    private static void write(int count) {
        SimpleRecord[] records = new SimpleRecord[count];
        for (int index = 0; index < count; index++) records[index] = record(index);
        print("none", Compression.NONE, TimestampType.CREATE_TIME, records);
        print("append-time", Compression.NONE, TimestampType.LOG_APPEND_TIME, records);
        print("gzip", Compression.gzip().build(), TimestampType.CREATE_TIME, records);
        print("gzip-9", Compression.gzip().level(9).build(), TimestampType.CREATE_TIME, records);
        print("snappy", Compression.snappy().build(), TimestampType.CREATE_TIME, records);
        print("lz4", Compression.lz4().build(), TimestampType.CREATE_TIME, records);
        print("lz4-17", Compression.lz4().level(17).build(), TimestampType.CREATE_TIME, records);
        print("zstd", Compression.zstd().build(), TimestampType.CREATE_TIME, records);
        print("zstd-22", Compression.zstd().level(22).build(), TimestampType.CREATE_TIME, records);
        marker("commit", ControlRecordType.COMMIT);
        marker("abort", ControlRecordType.ABORT);
    }

    private static void legacy(int count) {
        Compression[] codecs = {
            Compression.NONE, Compression.gzip().build(), Compression.snappy().build(), Compression.lz4().build()};
        for (byte magic : new byte[] {0, 1}) {
            for (Compression codec : codecs) {
                String name = "v" + magic + "-" + codec.type().name;
                legacy(name, magic, codec, TimestampType.CREATE_TIME, 1, count);
                legacy(name + "-gaps", magic, codec, TimestampType.CREATE_TIME, 3, count);
                if (magic == 1) legacy(name + "-append-time", magic, codec, TimestampType.LOG_APPEND_TIME, 1, count);
            }
        }
    }

    private static void legacy(
            String name, byte magic, Compression codec, TimestampType type, int step, int count) {
        var builder = MemoryRecords.builder(
            ByteBuffer.allocate(1 << 16), magic, codec, type, 1000L, 1_700_000_111_000L);
        for (int index = 0; index < count; index++) {
            SimpleRecord of = record(index);
            builder.appendWithOffset(1000L + index * step, new SimpleRecord(of.timestamp(), of.key(), of.value()));
        }
        print(name, builder.build());
    }

    private static SimpleRecord record(int index) {
        byte[] key = index % 3 == 0 ? null : bytes("key-" + index);
        byte[] value = index % 4 == 1 ? null : bytes(("value of record " + index + " ").repeat(index % 5));
        Header[] all = {header("a", "1"), new RecordHeader("a", null), header("\u00e9", "")};
        Header[] headers = java.util.Arrays.copyOf(all, index % 4);
        return new SimpleRecord(1_700_000_000_000L + index * 7 - index % 3 * 100, key, value, headers);
    }

    private static Header header(String key, String value) {
        return new RecordHeader(key, bytes(value));
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static void print(String name, Compression codec, TimestampType type, SimpleRecord[] records) {
        MemoryRecords set = MemoryRecords.withRecords(
            RecordBatch.MAGIC_VALUE_V2, 0L, codec, type, 77L, (short) 5, 42, -1, true, records);
        print(name, set);
    }

    private static void marker(String name, ControlRecordType type) {
        EndTransactionMarker marker = new EndTransactionMarker(type, 9);
        print(name, MemoryRecords.withEndTransactionMarker(0L, 1_700_000_000_000L, -1, 77L, (short) 5, marker));
    }

    private static void print(String name, MemoryRecords set) {
        byte[] bytes = new byte[set.sizeInBytes()];
        set.buffer().get(bytes);
        System.out.println(name + " " + HEX.formatHex(bytes));
    }

    private static void read(String[] line) {
        MemoryRecords set = MemoryRecords.readableRecords(ByteBuffer.wrap(HEX.parseHex(line[1])));
        for (MutableRecordBatch batch : set.batches()) {
            batch.ensureValid();
            System.out.println(line[0] + " " + batch.compressionType().name + " " + batch.producerId() + "/"
                + batch.producerEpoch() + " " + batch.baseSequence() + " " + batch.nextOffset() + " "
                + batch.isTransactional() + " " + batch.isControlBatch() + " " + batch.maxTimestamp());
            for (Record record : batch) System.out.println(describe(batch, record));
        }
    }

    private static String describe(RecordBatch batch, Record record) {
        if (batch.isControlBatch()) {
            int epoch = EndTransactionMarker.deserialize(record).coordinatorEpoch();
            return ControlRecordType.parse(record.key()) + " " + epoch;
        }
        StringBuilder text = new StringBuilder();
        text.append(record.offset()).append(' ').append(record.timestamp());
        text.append(' ').append(hex(record.key())).append(' ').append(hex(record.value()));
        for (Header header : record.headers()) {
            ByteBuffer value = header.value() == null ? null : ByteBuffer.wrap(header.value());
            text.append(' ').append(HEX.formatHex(bytes(header.key()))).append('=').append(hex(value));
        }
        return text.toString();
    }

    private static String hex(ByteBuffer buffer) {
        if (buffer == null) return "null";
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return "'" + HEX.formatHex(bytes) + "'";
    }
}
