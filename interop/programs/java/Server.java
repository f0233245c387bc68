import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;

/** An origin with the JDK's own HTTP server; the paths are those of the Go origin. Usage: java Server PORT [HOST]. */
public final class Server {
    private static final int PERIOD = 251;

    public static void main(String[] arguments) throws IOException {
        String host = arguments.length > 1 ? arguments[1] : "127.0.0.1";
        HttpServer server = HttpServer.create(new InetSocketAddress(host, Integer.parseInt(arguments[0])), 128);
        server.createContext("/get", exchange -> answer(exchange, "{\"method\":\"" + exchange.getRequestMethod() + "\",\"url\":\"" + exchange.getRequestURI() + "\"}"));
        server.createContext("/post", Server::post);
        server.createContext("/stream-bytes/", Server::stream);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.start();
    }

    private static void post(HttpExchange exchange) throws IOException {
        byte[] body = exchange.getRequestBody().readAllBytes();
        int sum = 0;
        for (byte one : body) {
            sum = (sum + (one & 0xff)) & 0xffffff;
        }
        String text = body.length <= 1024 ? new String(body, StandardCharsets.UTF_8) : "";
        answer(exchange, "{\"data\":\"" + text.replace("\\", "\\\\").replace("\"", "\\\"") + "\",\"length\":" + body.length + ",\"sum\":" + sum + "}");
    }

    private static void stream(HttpExchange exchange) throws IOException {
        long total = Long.parseLong(exchange.getRequestURI().getPath().substring("/stream-bytes/".length()));
        byte[] block = new byte[PERIOD * 256];
        for (int i = 0; i < block.length; i++) {
            block[i] = (byte) (i % PERIOD);
        }
        exchange.getResponseHeaders().set("X-Pattern", "mod" + PERIOD);
        exchange.sendResponseHeaders(200, 0);
        try (OutputStream out = exchange.getResponseBody()) {
            for (long sent = 0; sent < total; ) {
                int count = (int) Math.min(block.length, total - sent);
                out.write(block, 0, count);
                sent += count;
            }
        }
    }

    private static void answer(HttpExchange exchange, String text) throws IOException {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(200, bytes.length);
        try (OutputStream out = exchange.getResponseBody()) {
            out.write(bytes);
        }
    }
}
