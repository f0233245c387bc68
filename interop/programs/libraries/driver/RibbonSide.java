import com.netflix.loadbalancer.AvailabilityFilteringRule;
import com.netflix.loadbalancer.BaseLoadBalancer;
import com.netflix.loadbalancer.BestAvailableRule;
import com.netflix.loadbalancer.IRule;
import com.netflix.loadbalancer.LoadBalancerStats;
import com.netflix.loadbalancer.Server;
import com.netflix.loadbalancer.ServerStats;
import com.netflix.loadbalancer.WeightedResponseTimeRule;
import java.lang.reflect.AccessibleObject;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;

/** So many servers and a rule, by its name without the word. */
final class RibbonSide {
    private final BaseLoadBalancer balancer;
    private final List<Server> servers = new ArrayList<>();
    private final IRule rule;

    RibbonSide(String name, int count, String ruleName) {
        rule = make(ruleName);
        balancer = new BaseLoadBalancer(name, rule, new LoadBalancerStats(name));
        // Once more: in the constructor the rule has looked for statistics before they were there.
        rule.setLoadBalancer(balancer);
        if (rule instanceof WeightedResponseTimeRule) {
            // Weights are found when the test says so, not by the rule's own timer as well.
            ((WeightedResponseTimeRule) rule).shutdown();
        }
        for (int port = 1; port <= count; port++) {
            servers.add(new Server("127.0.0.1", port));
        }
        balancer.setServersList(servers);
    }

    int choose() {
        return balancer.chooseServer(null).getPort() - 1;
    }

    /** As Ribbon's clients note the end of a call: no connection counts, whatever is answered begins anew. */
    void note(int server, boolean isConnected) {
        if (isConnected) {
            stats(server).clearSuccessiveConnectionFailureCount();
        } else {
            stats(server).incrementSuccessiveConnectionFailureCount();
        }
    }

    void open(int server) {
        stats(server).incrementActiveRequestsCount();
    }

    void close(int server) {
        stats(server).decrementActiveRequestsCount();
    }

    void time(int server, double millis) {
        stats(server).noteResponseTime(millis);
    }

    /** Has the rule find its weights, as it does every half minute; the sums up to each server, with commas between. */
    String weigh() throws ReflectiveOperationException {
        Class<?> finder = Class.forName(WeightedResponseTimeRule.class.getName() + "$ServerWeight");
        Constructor<?> made = finder.getDeclaredConstructor(WeightedResponseTimeRule.class);
        Method find = finder.getDeclaredMethod("maintainWeights");
        Method weights = WeightedResponseTimeRule.class.getDeclaredMethod("getAccumulatedWeights");
        Field underWay = WeightedResponseTimeRule.class.getDeclaredField("serverWeightAssignmentInProgress");
        for (AccessibleObject hidden : new AccessibleObject[] {made, find, weights, underWay}) {
            hidden.setAccessible(true);
        }
        // What its timer has begun before it was stopped would have this one do nothing.
        while (((AtomicBoolean) underWay.get(rule)).get()) {
            Thread.onSpinWait();
        }
        find.invoke(made.newInstance(rule));
        StringBuilder sums = new StringBuilder();
        for (Object sum : (List<?>) weights.invoke(rule)) {
            sums.append(sums.length() == 0 ? "" : ",").append(sum);
        }
        return sums.toString();
    }

    /** A digit for each server: 1 has tripped. */
    String tripped() {
        StringBuilder digits = new StringBuilder();
        for (int server = 0; server < servers.size(); server++) {
            digits.append(stats(server).isCircuitBreakerTripped() ? '1' : '0');
        }
        return digits.toString();
    }

    void shutdown() {
        balancer.shutdown();
    }

    private static IRule make(String name) {
        switch (name) {
            case "BestAvailable":
                return new BestAvailableRule();
            case "WeightedResponseTime":
                return new WeightedResponseTimeRule();
            default:
                return new AvailabilityFilteringRule();
        }
    }

    private ServerStats stats(int server) {
        return balancer.getLoadBalancerStats().getSingleServerStat(servers.get(server));
    }
}
