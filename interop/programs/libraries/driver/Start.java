import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.List;

/**
 * Starts {@link Driver} with the libraries as they are, but for a word: Hystrix's breaker, what Ribbon knows of a server and
 * Sentinel's queue ask {@code System} for the time, and have no seam for it; and Sentinel's queue sleeps. In their classes, as
 * they are loaded, the names of those whom they ask become {@code Time}.
 */
public final class Start extends URLClassLoader {
    private static final List<String> REDIRECTED = List.of(
        "com.netflix.hystrix.HystrixCircuitBreaker$HystrixCircuitBreakerImpl", "com.netflix.loadbalancer.ServerStats",
        "com.netflix.loadbalancer.BestAvailableRule",
        "com.alibaba.csp.sentinel.slots.block.flow.controller.ThrottlingController");
    private static final List<String> ASKED =
        List.of("java/lang/System", "java/lang/Thread", "java/util/concurrent/locks/LockSupport");
    private static final int UTF8 = 1, LONG = 5, DOUBLE = 6;

    private Start(URL[] path) {
        super(path, ClassLoader.getPlatformClassLoader());
    }

    public static void main(String[] arguments) throws Exception {
        List<URL> path = new ArrayList<>();
        for (String entry : System.getProperty("java.class.path").split(File.pathSeparator)) {
            path.add(new File(entry).toURI().toURL());
        }
        Start loader = new Start(path.toArray(new URL[0]));
        Thread.currentThread().setContextClassLoader(loader);
        loader.loadClass("Driver").getMethod("run").invoke(null);
    }

    @Override
    protected Class<?> findClass(String name) throws ClassNotFoundException {
        if (!REDIRECTED.contains(name)) {
            return super.findClass(name);
        }
        try (InputStream file = getResourceAsStream(name.replace('.', '/') + ".class")) {
            byte[] redirected = redirect(file.readAllBytes());
            return defineClass(name, redirected, 0, redirected.length);
        } catch (IOException error) {
            throw new ClassNotFoundException(name, error);
        }
    }

    /** A copy of a class file with entries of its constant pool changed. */
    private static byte[] redirect(byte[] file) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataInputStream in = new DataInputStream(new ByteArrayInputStream(file));
        DataOutputStream out = new DataOutputStream(bytes);
        out.writeInt(in.readInt());
        out.writeInt(in.readInt());
        int count = in.readUnsignedShort();
        out.writeShort(count);
        for (int entry = 1; entry < count; entry++) {
            int tag = in.readUnsignedByte();
            out.writeByte(tag);
            if (tag == UTF8) {
                String text = in.readUTF();
                out.writeUTF(ASKED.contains(text) ? "Time" : text);
            } else {
                out.write(in.readNBytes(length(tag)));
                // These take two places.
                entry += tag == LONG || tag == DOUBLE ? 1 : 0;
            }
        }
        in.transferTo(out);
        return bytes.toByteArray();
    }

    private static int length(int tag) throws IOException {
        switch (tag) {
            case 7: case 8: case 16: case 19: case 20: return 2;
            case 15: return 3;
            case 3: case 4: case 9: case 10: case 11: case 12: case 17: case 18: return 4;
            case LONG: case DOUBLE: return 8;
            default: throw new IOException("constant of kind " + tag);
        }
    }
}
