import io.github.resilience4j.circuitbreaker.CircuitBreaker;
import io.github.resilience4j.circuitbreaker.CircuitBreakerConfig;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneId;
import java.time.ZoneOffset;
import java.util.concurrent.TimeUnit;

/** Terms: window in s, percentage of failures, percentage of slow calls, longest time in ms, volume, open time in ms, probes. */
final class Resilience4jSide implements Side {
    private final CircuitBreaker breaker;

    Resilience4jSide(String name, String[] terms) {
        breaker = CircuitBreaker.of(name, CircuitBreakerConfig.custom()
            .clock(new Told())
            .slidingWindowType(CircuitBreakerConfig.SlidingWindowType.TIME_BASED)
            .slidingWindowSize(Integer.parseInt(terms[0]))
            .failureRateThreshold(Float.parseFloat(terms[1]))
            .slowCallRateThreshold(Float.parseFloat(terms[2]))
            .slowCallDurationThreshold(Duration.ofMillis(Long.parseLong(terms[3])))
            .minimumNumberOfCalls(Integer.parseInt(terms[4]))
            .waitDurationInOpenState(Duration.ofMillis(Long.parseLong(terms[5])))
            .permittedNumberOfCallsInHalfOpenState(Integer.parseInt(terms[6]))
            .build());
    }

    @Override
    public void look() {}

    @Override
    public boolean begin(int call) {
        return breaker.tryAcquirePermission();
    }

    @Override
    public void end(int call, boolean good, long tookMillis) {
        if (good) {
            breaker.onSuccess(tookMillis, TimeUnit.MILLISECONDS);
        } else {
            breaker.onError(tookMillis, TimeUnit.MILLISECONDS, new RuntimeException("bad"));
        }
    }

    @Override
    public void leave(int call) {
        breaker.releasePermission();
    }

    @Override
    public String state() {
        return breaker.getState().name().toLowerCase();
    }

    private static final class Told extends Clock {
        @Override
        public Instant instant() {
            return Instant.ofEpochMilli(Time.currentTimeMillis());
        }

        @Override
        public ZoneId getZone() {
            return ZoneOffset.UTC;
        }

        @Override
        public Clock withZone(ZoneId zone) {
            return this;
        }
    }
}
