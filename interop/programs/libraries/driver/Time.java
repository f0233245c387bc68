/**
 * The time of whoever compares. What a library asks of {@code java.lang.System} it asks of this class instead, where
 * {@link Start} says so.
 */
public final class Time {
    private static volatile long now;

    private Time() {}

    static void set(long millis) {
        now = millis;
        com.alibaba.csp.sentinel.util.TimeUtil.now = millis;
    }

    public static long currentTimeMillis() {
        return now;
    }
}
