import com.netflix.loadbalancer.AvailabilityFilteringRule;
import com.netflix.loadbalancer.BaseLoadBalancer;
import com.netflix.loadbalancer.BestAvailableRule;
import com.netflix.loadbalancer.IRule;
import com.netflix.loadbalancer.LoadBalancerStats;
import com.netflix.loadbalancer.Server;
import com.netflix.loadbalancer.ServerStats;
import java.util.ArrayList;
import java.util.List;

/** So many servers and a rule, by its name without the word. */
final class RibbonSide {
    private final BaseLoadBalancer balancer;
    private final List<Server> servers = new ArrayList<>();

    RibbonSide(String name, int count, String ruleName) {
        IRule rule = ruleName.equals("BestAvailable") ? new BestAvailableRule() : new AvailabilityFilteringRule();
        balancer = new BaseLoadBalancer(name, rule, new LoadBalancerStats(name));
        // Once more: in the constructor the rule has looked for statistics before they were there.
        rule.setLoadBalancer(balancer);
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

    private ServerStats stats(int server) {
        return balancer.getLoadBalancerStats().getSingleServerStat(servers.get(server));
    }
}
