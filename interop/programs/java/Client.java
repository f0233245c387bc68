import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.stream.Stream;

/**
 * Java's HttpClient. It asks to be upgraded to HTTP/2 with its first request, as it does by default.
 *
 * <p>Usage: java Client URL[,BYTES] ...; one JSON verdict a line for each base URL, so that one JVM serves many scenarios.
 */
public final class Client {
    private static final int DEFAULT_BYTES = 65536;
    private static final int PERIOD = 251;

    public static void main(String[] arguments) {
        boolean all = true;
        for (String argument : arguments) {
            String[] parts = argument.split(",");
            int bytes = parts.length > 1 ? Integer.parseInt(parts[1]) : DEFAULT_BYTES;
            all &= run(parts[0], bytes);
        }
        System.exit(all ? 0 : 1);
    }

    private static boolean run(String base, int bytes) {
        boolean get = false;
        boolean post = false;
        boolean keepAlive = false;
        int streamed = 0;
        String error = "";
        String version = "";
        HttpClient client = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(10)).build();
        try {
            get = send(client, request(base + "/get?word=caf%C3%A9").GET()).contains("word");
            String posted = send(client, request(base + "/post").header("Content-Type", "text/plain").POST(BodyPublishers.ofString("posted by java")));
            post = posted.contains("posted by java");
            long before = sockets();
            for (int i = 0; i < 10; i++) {
                send(client, request(base + "/get").GET());
            }
            keepAlive = sockets() <= before;
            HttpResponse<InputStream> reply = client.send(request(base + "/stream-bytes/" + bytes).GET().build(), BodyHandlers.ofInputStream());
            version = reply.version().toString();
            streamed = drain(reply);
        } catch (Exception problem) {
            error = problem.toString().replace('"', '\'');
        }
        boolean ok = get && post && keepAlive && streamed == bytes && error.isEmpty();
        System.out.println("{\"client\":\"java\",\"base\":\"" + base + "\",\"get\":" + get + ",\"post\":" + post + ",\"keep_alive\":" + keepAlive
            + ",\"stream_bytes\":" + streamed + ",\"version\":\"" + version + "\",\"ok\":" + ok + (error.isEmpty() ? "" : ",\"error\":\"" + error + "\"") + "}");
        return ok;
    }

    private static HttpRequest.Builder request(String url) {
        return HttpRequest.newBuilder(URI.create(url)).timeout(Duration.ofSeconds(60));
    }

    private static String send(HttpClient client, HttpRequest.Builder request) throws Exception {
        HttpResponse<String> reply = client.send(request.build(), BodyHandlers.ofString());
        if (reply.statusCode() != 200) {
            throw new IllegalStateException(reply.uri() + ": " + reply.statusCode());
        }
        return reply.body();
    }

    private static int drain(HttpResponse<InputStream> reply) throws Exception {
        boolean patterned = reply.headers().firstValue("x-pattern").orElse("").equals("mod" + PERIOD);
        byte[] buffer = new byte[65536];
        int total = 0;
        try (InputStream body = reply.body()) {
            for (int count = body.read(buffer); count >= 0; count = body.read(buffer)) {
                for (int i = 0; patterned && i < count; i++) {
                    if ((buffer[i] & 0xff) != (total + i) % PERIOD) {
                        throw new IllegalStateException("byte " + (total + i) + " is another");
                    }
                }
                total += count;
            }
        }
        return total;
    }

    /** The sockets that this process has open: ten requests on a kept connection add none. */
    private static long sockets() throws Exception {
        try (Stream<Path> open = Files.list(Path.of("/proc/self/fd"))) {
            return open.filter(Client::isSocket).count();
        }
    }

    private static boolean isSocket(Path path) {
        try {
            return Files.readSymbolicLink(path).toString().startsWith("socket:");
        } catch (Exception gone) {
            return false;
        }
    }
}
