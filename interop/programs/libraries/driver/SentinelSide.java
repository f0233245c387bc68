import com.alibaba.csp.sentinel.AsyncEntry;
import com.alibaba.csp.sentinel.SphU;
import com.alibaba.csp.sentinel.Tracer;
import com.alibaba.csp.sentinel.slots.block.BlockException;
import com.alibaba.csp.sentinel.slots.block.RuleConstant;
import com.alibaba.csp.sentinel.slots.block.degrade.DegradeRule;
import com.alibaba.csp.sentinel.slots.block.degrade.DegradeRuleManager;
import com.alibaba.csp.sentinel.slots.block.degrade.circuitbreaker.CircuitBreaker;
import java.lang.reflect.Method;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Terms: slow, ratio or count, its threshold (a share from 0 to 1, or a number), longest time in ms, window in ms, volume, open time in s. */
final class SentinelSide implements Side {
    private final String name;
    private final Map<Integer, AsyncEntry> entries = new HashMap<>();
    private final CircuitBreaker breaker;

    SentinelSide(String name, String[] terms) {
        this.name = name;
        double threshold = Double.parseDouble(terms[1]);
        DegradeRule rule = new DegradeRule(name);
        switch (terms[0]) {
            case "slow":
                rule.setGrade(RuleConstant.DEGRADE_GRADE_RT);
                rule.setCount(Double.parseDouble(terms[2])).setSlowRatioThreshold(threshold);
                break;
            case "ratio":
                rule.setGrade(RuleConstant.DEGRADE_GRADE_EXCEPTION_RATIO).setCount(threshold);
                break;
            default:
                rule.setGrade(RuleConstant.DEGRADE_GRADE_EXCEPTION_COUNT).setCount(threshold);
        }
        rule.setStatIntervalMs(Integer.parseInt(terms[3]));
        rule.setMinRequestAmount(Integer.parseInt(terms[4]));
        rule.setTimeWindow(Integer.parseInt(terms[5]));
        DegradeRuleManager.loadRules(Collections.singletonList(rule));
        breaker = breakerOf(name);
    }

    @Override
    public void look() {}

    @Override
    public boolean begin(int call) {
        try {
            entries.put(call, SphU.asyncEntry(name));
            return true;
        } catch (BlockException refused) {
            return false;
        }
    }

    @Override
    public void end(int call, boolean good, long tookMillis) {
        AsyncEntry entry = entries.remove(call);
        if (!good) {
            Tracer.traceEntry(new RuntimeException("bad"), entry);
        }
        entry.exit();
    }

    @Override
    public void leave(int call) {
        throw new UnsupportedOperationException("an entry of Sentinel ends well or badly");
    }

    @Override
    public String state() {
        return breaker.currentState().name().toLowerCase();
    }

    /** Sentinel shows it to its own package alone. */
    private static CircuitBreaker breakerOf(String name) {
        try {
            Method get = DegradeRuleManager.class.getDeclaredMethod("getCircuitBreakers", String.class);
            get.setAccessible(true);
            return (CircuitBreaker) ((List<?>) get.invoke(null, name)).get(0);
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(error);
        }
    }
}
