import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.handler.AbstractHandler;

/** Says in a field which path Jetty gives its handlers. */
public class JettyPaths {
    public static void main(String[] arguments) throws Exception {
        System.setProperty("org.eclipse.jetty.LEVEL", "OFF");
        var server = new Server(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
        server.setHandler(new AbstractHandler() {
            @Override
            public void handle(String target, Request base, HttpServletRequest request, HttpServletResponse response) {
                var path = target.getBytes(StandardCharsets.UTF_8);
                response.setHeader("X-Path", Base64.getEncoder().encodeToString(path));
                base.setHandled(true);
            }
        });
        server.start();
        server.join();
    }
}
