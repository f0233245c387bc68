/** A breaker of one library. Times are what {@link Time} says. */
interface Side {
    /** Time has passed. */
    void look();

    /** A call begins; false when it is refused. */
    boolean begin(int call);

    void end(int call, boolean good, long tookMillis);

    /** The caller does not wait for the answer any more. */
    void leave(int call);

    /** closed, open or half_open. */
    String state();
}
