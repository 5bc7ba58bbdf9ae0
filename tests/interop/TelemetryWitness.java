import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.metrics.KafkaMetric;
import org.apache.kafka.common.metrics.MetricsReporter;
import org.apache.kafka.server.telemetry.ClientTelemetry;
import org.apache.kafka.server.telemetry.ClientTelemetryReceiver;
import org.apache.kafka.shaded.io.opentelemetry.proto.metrics.v1.MetricsData;

/**
 * A broker's receiver of clients' figures. Writes down what it gets, a line a figure: client, whether it is the
 * client's last push, name, kind, value, attributes.
 */
public class TelemetryWitness implements MetricsReporter, ClientTelemetry {
    private Path file;

    public void configure(Map<String, ?> configs) {
        file = Path.of(String.valueOf(configs.get("telemetry.witness.file")));
    }

    public ClientTelemetryReceiver clientReceiver() {
        return (context, payload) -> {
            try {
                var lines = new StringBuilder();
                String head = context.clientId() + " " + payload.isTerminating() + " ";
                for (var resource : MetricsData.parseFrom(payload.data()).getResourceMetricsList()) {
                    for (var metric : resource.getScopeMetricsList().get(0).getMetricsList()) {
                        boolean sum = metric.hasSum();
                        var points = sum ? metric.getSum().getDataPointsList() : metric.getGauge().getDataPointsList();
                        String kind = !sum ? "gauge"
                            : metric.getSum().getAggregationTemporalityValue() + (metric.getSum().getIsMonotonic() ? "m" : "");
                        for (var point : points) {
                            lines.append(head).append(metric.getName()).append(" ").append(kind).append(" ")
                                .append(point.getAsDouble()).append(" ").append(point.getTimeUnixNano() > 0);
                            point.getAttributesList().forEach(a ->
                                lines.append(" ").append(a.getKey()).append("=").append(a.getValue().getStringValue()));
                            lines.append("\n");
                        }
                    }
                }
                write(lines.toString());
            } catch (Exception failure) {
                write(context.clientId() + " " + failure + "\n");
            }
        };
    }

    private synchronized void write(String text) {
        try {
            Files.write(file, text.getBytes(StandardCharsets.UTF_8), StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        } catch (java.io.IOException failure) {
            throw new java.io.UncheckedIOException(failure);
        }
    }

    public void init(List<KafkaMetric> metrics) {}
    public void metricChange(KafkaMetric metric) {}
    public void metricRemoval(KafkaMetric metric) {}
    public void close() {}
}
