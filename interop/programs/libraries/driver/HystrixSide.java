import com.netflix.hystrix.Hystrix;
import com.netflix.hystrix.HystrixCircuitBreaker;
import com.netflix.hystrix.HystrixCommandGroupKey;
import com.netflix.hystrix.HystrixCommandKey;
import com.netflix.hystrix.HystrixCommandProperties;
import com.netflix.hystrix.HystrixObservableCommand;
import com.netflix.hystrix.exception.HystrixRuntimeException;
import com.netflix.hystrix.metric.consumer.CumulativeCommandEventCounterStream;
import com.netflix.hystrix.metric.consumer.HealthCountsStream;
import com.netflix.hystrix.metric.consumer.RollingCommandEventCounterStream;
import com.netflix.hystrix.metric.consumer.RollingCommandLatencyDistributionStream;
import com.netflix.hystrix.metric.consumer.RollingCommandMaxConcurrencyStream;
import com.netflix.hystrix.metric.consumer.RollingCommandUserLatencyDistributionStream;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import rx.Observable;
import rx.Subscription;
import rx.plugins.RxJavaHooks;
import rx.schedulers.TestScheduler;
import rx.subjects.PublishSubject;

/** Terms: window and snapshot interval in ms, volume, percentage, sleep window in ms. */
final class HystrixSide implements Side {
    /** Windows are counted by it, as RxJava provides for tests. */
    private static volatile TestScheduler scheduler;

    private final HystrixObservableCommand.Setter setter;
    private final HystrixCommandKey key;
    private final Map<Integer, PublishSubject<Integer>> answers = new HashMap<>();
    private final Map<Integer, Subscription> callers = new HashMap<>();

    HystrixSide(String name, String[] terms) {
        // What was made before would be kept for ever.
        Hystrix.reset();
        HealthCountsStream.reset();
        RollingCommandEventCounterStream.reset();
        CumulativeCommandEventCounterStream.reset();
        RollingCommandLatencyDistributionStream.reset();
        RollingCommandUserLatencyDistributionStream.reset();
        RollingCommandMaxConcurrencyStream.reset();
        scheduler = new TestScheduler();
        RxJavaHooks.setOnComputationScheduler(unused -> scheduler);
        key = HystrixCommandKey.Factory.asKey(name);
        setter = HystrixObservableCommand.Setter.withGroupKey(HystrixCommandGroupKey.Factory.asKey("leno"))
            .andCommandKey(key)
            .andCommandPropertiesDefaults(HystrixCommandProperties.Setter()
                .withMetricsRollingStatisticalWindowInMilliseconds(Integer.parseInt(terms[0]))
                .withMetricsRollingStatisticalWindowBuckets(10)
                .withMetricsHealthSnapshotIntervalInMilliseconds(Integer.parseInt(terms[1]))
                .withCircuitBreakerRequestVolumeThreshold(Integer.parseInt(terms[2]))
                .withCircuitBreakerErrorThresholdPercentage(Integer.parseInt(terms[3]))
                .withCircuitBreakerSleepWindowInMilliseconds(Integer.parseInt(terms[4]))
                .withExecutionIsolationSemaphoreMaxConcurrentRequests(10_000)
                .withExecutionTimeoutEnabled(false)
                .withFallbackEnabled(false)
                .withRequestCacheEnabled(false)
                .withRequestLogEnabled(false));
        scheduler.advanceTimeTo(Time.currentTimeMillis(), TimeUnit.MILLISECONDS);
        // A command makes its breaker when it is made.
        new Call(PublishSubject.create());
        scheduler.triggerActions();
    }

    @Override
    public void look() {
        scheduler.advanceTimeTo(Time.currentTimeMillis(), TimeUnit.MILLISECONDS);
    }

    @Override
    public boolean begin(int call) {
        look();
        PublishSubject<Integer> answer = PublishSubject.create();
        Throwable[] failure = new Throwable[1];
        Subscription caller = new Call(answer).toObservable().subscribe(unused -> {}, error -> failure[0] = error);
        answers.put(call, answer);
        callers.put(call, caller);
        if (failure[0] == null) {
            return true;
        }
        HystrixRuntimeException why = (HystrixRuntimeException) failure[0];
        if (why.getFailureType() != HystrixRuntimeException.FailureType.SHORTCIRCUIT) {
            throw why;
        }
        return false;
    }

    @Override
    public void end(int call, boolean good, long tookMillis) {
        look();
        PublishSubject<Integer> answer = answers.remove(call);
        if (good) {
            answer.onNext(call);
            answer.onCompleted();
        } else {
            answer.onError(new RuntimeException("bad"));
        }
        scheduler.triggerActions();
    }

    @Override
    public void leave(int call) {
        look();
        callers.remove(call).unsubscribe();
        scheduler.triggerActions();
    }

    /** Asking is looking: this breaker opens when it is asked. */
    @Override
    public String state() {
        return HystrixCircuitBreaker.Factory.getInstance(key).isOpen() ? "open" : "closed";
    }

    private final class Call extends HystrixObservableCommand<Integer> {
        private final PublishSubject<Integer> answer;

        Call(PublishSubject<Integer> answer) {
            super(setter);
            this.answer = answer;
        }

        @Override
        protected Observable<Integer> construct() {
            return answer;
        }
    }
}
