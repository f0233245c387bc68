#!/bin/sh
# Redis with its own client: single commands, a large value, a pipeline, a blocking pop, a subscription, many connections.
#
# talk.sh HOST PORT   prints `redis ok` when everything was answered as it should be
set -eu
cli="redis-cli -h $1 -p $2"
is() { [ "$2" = "$3" ] || { echo "$1: expected $2, got $3"; exit 1; }; }

is ping PONG "$($cli ping)"
is set OK "$($cli set greeting hello)"
is get hello "$($cli get greeting)"
head -c 1000000 /dev/zero | tr '\0' x | $cli -x set large >/dev/null
is 'large value' 1000000 "$($cli strlen large)"
is 'large value back' 1000000 "$($cli --raw get large | head -c 1000000 | wc -c)"
seq 1 20000 | sed 's/.*/SET key:& &/' | $cli --pipe | grep -q 'errors: 0, replies: 20000' || { echo "the pipeline lost something"; exit 1; }
is 'last of the pipeline' 20000 "$($cli get key:20000)"

$cli blpop queue 20 >popped &
popper=$!
$cli rpush queue first >/dev/null
wait $popper
is 'blocking pop' 'queue first' "$(tr '\n' ' ' <popped | sed 's/ $//')"

timeout 20 $cli subscribe news >heard &
until [ "$($cli publish news extra)" = 1 ]; do :; done
until grep -q extra heard; do :; done
kill $!
wait $! || true

redis-benchmark -h "$1" -p "$2" -q -c 50 -n 10000 -t set,get >benchmark
grep -q 'GET: ' benchmark || { echo "the benchmark did not end"; exit 1; }
echo 'redis ok'
