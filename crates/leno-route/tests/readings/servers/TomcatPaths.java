import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.logging.Level;
import java.util.logging.Logger;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;

/** Says in a field which path Tomcat maps to a servlet. */
public class TomcatPaths {
    public static void main(String[] arguments) throws Exception {
        Logger.getLogger("org.apache").setLevel(Level.SEVERE);
        var tomcat = new Tomcat();
        tomcat.setBaseDir(arguments[1]);
        var connector = new Connector();
        connector.setPort(Integer.parseInt(arguments[0]));
        connector.setProperty("address", "127.0.0.1");
        tomcat.setConnector(connector);
        var context = tomcat.addContext("", arguments[1]);
        Tomcat.addServlet(context, "paths", new HttpServlet() {
            @Override
            protected void service(HttpServletRequest request, HttpServletResponse response) {
                var rest = request.getPathInfo() == null ? "" : request.getPathInfo();
                var path = (request.getServletPath() + rest).getBytes(StandardCharsets.UTF_8);
                response.setHeader("X-Path", Base64.getEncoder().encodeToString(path));
            }
        });
        context.addServletMappingDecoded("/*", "paths");
        tomcat.start();
        tomcat.getServer().await();
    }
}
