/**
 * The time of whoever compares. What a library asks of {@code java.lang.System} it asks of this class instead, where
 * {@link Start} says so.
 */
public final class Time {
    private static volatile long now;
    private static volatile long slept;

    private Time() {}

    static void set(long millis) {
        now = millis;
        com.alibaba.csp.sentinel.util.TimeUtil.now = millis;
    }

    public static long currentTimeMillis() {
        return now;
    }

    public static long nanoTime() {
        return now * 1_000_000;
    }

    /** Nobody sleeps: how long it would have been is noted. */
    public static void sleep(long millis) {
        slept += millis * 1_000_000;
    }

    public static void parkNanos(long nanos) {
        slept += nanos;
    }

    /** How many nanoseconds somebody would have slept since this was asked before. */
    static long slept() {
        long nanos = slept;
        slept = 0;
        return nanos;
    }
}
