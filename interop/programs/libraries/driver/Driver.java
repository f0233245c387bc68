import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/**
 * Reads steps from standard input and answers each with a line.
 *
 * <pre>
 * new LIBRARY NOW TERMS...    ok STATE
 * look NOW                    ok STATE
 * begin NOW CALL              passed STATE | refused STATE
 * end NOW CALL good|bad       ok STATE
 * leave NOW CALL              ok STATE
 * servers NOW COUNT RULE      ok TRIPPED, of Ribbon
 * choose NOW                  SERVER TRIPPED
 * open|close NOW SERVER       ok TRIPPED
 * note NOW SERVER good|bad    ok TRIPPED
 * time NOW SERVER MILLIS      ok TRIPPED
 * weigh NOW                   SUMS TRIPPED
 * limit NOW KIND COUNT QUEUE  ok -, of Sentinel's flow rules
 * enter NOW                   passed WAIT | refused -
 * exit NOW                    ok -
 * </pre>
 */
public final class Driver {
    private final Map<Integer, Long> began = new HashMap<>();
    private Side side;
    private RibbonSide ribbon;
    private FlowSide flow;
    private int made;

    public static void run() throws Exception {
        // Libraries write there too.
        PrintStream answers = System.out;
        System.setOut(System.err);
        Driver driver = new Driver();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            answers.println(driver.step(line.split(" ")));
            answers.flush();
        }
        // Libraries keep threads of their own.
        System.exit(0);
    }

    private String step(String[] words) throws ReflectiveOperationException {
        if (words[0].equals("new")) {
            Time.set(Long.parseLong(words[2]));
            began.clear();
            side = make(words);
            return "ok " + side.state();
        }
        long now = Long.parseLong(words[1]);
        Time.set(now);
        if (Arrays.asList("limit", "enter", "exit").contains(words[0])) {
            return limit(words);
        }
        return Arrays.asList("servers", "choose", "open", "close", "note", "time", "weigh").contains(words[0]) ? serve(words) : call(words, now);
    }

    private String limit(String[] words) {
        switch (words[0]) {
            case "limit":
                flow = new FlowSide(words[2], Double.parseDouble(words[3]), Integer.parseInt(words[4]));
                return "ok -";
            case "enter":
                return flow.enter();
            default:
                flow.exit();
                return "ok -";
        }
    }

    private String serve(String[] words) throws ReflectiveOperationException {
        String answer = "ok";
        switch (words[0]) {
            case "servers":
                if (ribbon != null) {
                    ribbon.shutdown();
                }
                ribbon = new RibbonSide("servers-" + made++, Integer.parseInt(words[2]), words[3]);
                break;
            case "choose":
                answer = String.valueOf(ribbon.choose());
                break;
            case "open":
                ribbon.open(Integer.parseInt(words[2]));
                break;
            case "close":
                ribbon.close(Integer.parseInt(words[2]));
                break;
            case "time":
                ribbon.time(Integer.parseInt(words[2]), Double.parseDouble(words[3]));
                break;
            case "weigh":
                answer = ribbon.weigh();
                break;
            default:
                ribbon.note(Integer.parseInt(words[2]), words[3].equals("good"));
        }
        return answer + " " + ribbon.tripped();
    }

    private String call(String[] words, long now) {
        String answer = "ok";
        switch (words[0]) {
            case "look":
                side.look();
                break;
            case "begin":
                began.put(number(words), now);
                answer = side.begin(number(words)) ? "passed" : "refused";
                break;
            case "end":
                side.end(number(words), words[3].equals("good"), now - began.remove(number(words)));
                break;
            case "leave":
                began.remove(number(words));
                side.leave(number(words));
                break;
            default:
                throw new IllegalArgumentException(words[0]);
        }
        return answer + " " + side.state();
    }

    private Side make(String[] words) {
        String name = "breaker-" + made++;
        String[] terms = Arrays.copyOfRange(words, 3, words.length);
        switch (words[1]) {
            case "hystrix": return new HystrixSide(name, terms);
            case "sentinel": return new SentinelSide(name, terms);
            case "resilience4j": return new Resilience4jSide(name, terms);
            default: throw new IllegalArgumentException(words[1]);
        }
    }

    private static int number(String[] words) {
        return Integer.parseInt(words[2]);
    }
}
