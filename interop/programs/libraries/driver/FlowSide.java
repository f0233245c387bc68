import com.alibaba.csp.sentinel.node.StatisticNode;
import com.alibaba.csp.sentinel.slots.block.RuleConstant;
import com.alibaba.csp.sentinel.slots.block.flow.TrafficShapingController;
import com.alibaba.csp.sentinel.slots.block.flow.controller.DefaultController;
import com.alibaba.csp.sentinel.slots.block.flow.controller.ThrottlingController;

/** A flow rule of Sentinel: what it is controlled by, as {@code FlowRuleUtil} makes it, over what it has counted. */
final class FlowSide {
    private final StatisticNode node = new StatisticNode();
    private final TrafficShapingController control;

    FlowSide(String kind, double count, int queueMillis) {
        switch (kind) {
            case "reject":
                control = new DefaultController(count, RuleConstant.FLOW_GRADE_QPS);
                break;
            case "threads":
                control = new DefaultController(count, RuleConstant.FLOW_GRADE_THREAD);
                break;
            case "queue":
                control = new ThrottlingController(queueMillis, count);
                break;
            default:
                throw new IllegalArgumentException(kind);
        }
    }

    /** As {@code StatisticSlot} counts who passes. */
    String enter() {
        Time.slept();
        if (!control.canPass(node, 1)) {
            return "refused -";
        }
        node.increaseThreadNum();
        node.addPassRequest(1);
        return "passed " + Time.slept();
    }

    void exit() {
        node.decreaseThreadNum();
    }
}
